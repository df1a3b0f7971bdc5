// The canvas of a plan: boxes over the last picture, and their list. Coordinates are thousandths of the sides.
//
// Belongs here: what an artist does with boxes. Not here: what a changed box does to the chain (plans.py); every
// change is sent as {chain, boxes, rev}, where `from` of a box is its number in `chain`, null for a new one.
(() => {
  "use strict";
  const UNITS = 1000, LAST = UNITS - 1, STEP = 10, LARGE = 50, CLICK = 3, MOST_UNDO = 200;
  const REACH = { mouse: 10, pen: 14, touch: 22 };
  const NEW_PHRASE = "an object";
  const clamp = (value) => Math.min(LAST, Math.max(0, Math.round(value)));
  const copy = (value) => JSON.parse(JSON.stringify(value));

  function make(tag, options = {}, ...children) {
    const { on = {}, data = {}, ...rest } = options;
    const node = Object.assign(document.createElement(tag), rest);
    for (const [name, value] of Object.entries(data)) node.dataset[name] = value;
    for (const [name, listener] of Object.entries(on)) node.addEventListener(name, listener);
    node.append(...children);
    return node;
  }

  class PlanCanvas {
    constructor(send) {
      this.send = send;
      this.state = { chain: "", boxes: [] };
      this.undone = []; this.done = [];
      this.selected = null; this.drag = null; this.masks = false; this.opacity = 1;
      this.palette = []; this.ghosts = []; this.image = null; this.aspect = 1; this.source = null;
      this.count = 0; this.rev = null;
      this.build();
    }

    // -- the page ------------------------------------------------------------------------------------------

    build() {
      const button = (name, title, act) => make("button", {
        type: "button", textContent: name, title, data: { do: name.toLowerCase() }, on: { click: act },
      });
      this.undoButton = button("Undo", "Ctrl+Z", () => this.undo());
      this.redoButton = button("Redo", "Ctrl+Shift+Z", () => this.redo());
      this.place = make("output", { className: "place" });
      const opacity = make("input", {
        type: "range", min: 0, max: 100, value: 100, title: "How much of the picture shows",
        on: { input: (event) => { this.opacity = event.target.value / 100; this.paint(); } },
      });
      opacity.dataset.do = "opacity";
      const masks = make("input", {
        type: "checkbox", data: { do: "masks" },
        on: { change: (event) => { this.masks = event.target.checked; this.paint(); } },
      });
      this.stageHost = make("div", { className: "stage" });
      this.surface = make("div", {
        className: "surface", tabIndex: 0, role: "application",
        ariaLabel: "Boxes of the plan. Drag to draw a box; arrows move, Alt with arrows resizes, " +
          "comma and full stop select, N adds, Delete removes, Enter renames.",
        on: {
          pointerdown: (event) => this.down(event), pointermove: (event) => this.move(event),
          pointerup: (event) => this.up(event), pointercancel: () => this.cancel(),
          keydown: (event) => this.key(event),
        },
      }, this.stageHost);
      this.list = make("ol", { className: "layers" });
      this.hint = make("p", { className: "hint", textContent: "Drag on the canvas to draw a box." });
      this.root = make("div", { className: "got-canvas" },
        make("div", { className: "tools" },
          button("Add", "A new box in the middle (N)", () => this.add()),
          button("Delete", "The chosen box (Delete)", () => this.remove(this.selected)),
          this.undoButton, this.redoButton,
          make("label", { textContent: "Picture " }, opacity),
          make("label", { title: "The boxes as the model is shown them" }, masks, " Model's colours"),
          this.place),
        this.surface, this.hint, this.list);
      this.stage = new Konva.Stage({ container: this.stageHost, width: 10, height: 10, listening: false });
      this.layer = new Konva.Layer({ listening: false });
      this.stage.add(this.layer);
      new ResizeObserver(() => this.fit()).observe(this.surface);
      this.render();
    }

    fit() {
      const width = Math.max(50, Math.floor(this.surface.clientWidth));
      const height = Math.round(width / this.aspect);
      if (this.stage.width() === width && this.stage.height() === height) return;
      this.stage.size({ width, height });
      this.paint();
    }

    show(source) {
      if (source === this.source) return;
      this.source = source;
      if (!source) { this.image = null; this.aspect = 1; this.fit(); this.paint(); return; }
      const image = new Image();
      image.onload = () => {
        if (this.source !== source) return;
        this.image = image; this.aspect = image.naturalWidth / image.naturalHeight;
        this.fit(); this.paint();
      };
      image.src = source;
    }

    // -- the plan ------------------------------------------------------------------------------------------

    load(value, palette) {
      if (palette) this.palette = palette;
      if (!value || value.rev === this.rev) return;
      this.rev = value.rev;
      this.ghosts = value.ghosts || [];
      const next = { chain: value.chain || "", boxes: copy(value.boxes || []) };
      if (JSON.stringify(next) !== JSON.stringify(this.state)) {
        if (this.state.chain) this.remember();
        this.state = next; this.drag = null;
        if (this.selected >= next.boxes.length) this.selected = null;
      }
      this.render();
    }

    remember() {
      this.done.push(copy(this.state));
      if (this.done.length > MOST_UNDO) this.done.shift();
      this.undone = [];
    }

    emit() {
      this.rev = "page-" + Date.now() + "-" + (this.count += 1);
      this.ghosts = [];
      this.render();
      this.send({ ...copy(this.state), rev: this.rev, seen: document.querySelector("#text textarea")?.value ?? "" });
    }

    change(act) { this.remember(); act(); this.emit(); }

    undo() { this.step(this.done, this.undone); }
    redo() { this.step(this.undone, this.done); }
    step(from, to) {
      if (!from.length) return;
      to.push(copy(this.state));
      this.state = from.pop(); this.drag = null;
      if (this.selected >= this.state.boxes.length) this.selected = null;
      this.emit();
    }

    get boxes() { return this.state.boxes; }

    insert(box) {
      this.boxes.push({ from: null, phrase: NEW_PHRASE, box, locked: false });
      this.selected = this.boxes.length - 1;
    }

    add() {
      const shift = (this.boxes.length % 6) * 40;
      this.change(() => this.insert([300 + shift, 300 + shift, 500 + shift, 500 + shift]));
      this.rename(this.selected);
    }

    remove(index) {
      if (index === null || !this.boxes[index] || this.boxes[index].locked) return;
      this.change(() => {
        this.boxes.splice(index, 1);
        this.selected = this.boxes.length ? Math.min(index, this.boxes.length - 1) : null;
      });
    }

    reorder(index, by) {
      const to = index + by;
      if (to < 0 || to >= this.boxes.length) return;
      this.change(() => {
        const [one] = this.boxes.splice(index, 1);
        this.boxes.splice(to, 0, one);
        this.selected = to;
      });
    }

    rename(index) {
      const field = this.list.children[index]?.querySelector("input.phrase");
      if (field) { field.focus(); field.select(); }
    }

    // -- the pointer ---------------------------------------------------------------------------------------

    at(event) {
      const area = this.stageHost.getBoundingClientRect();
      return [
        ((event.clientX - area.left) / this.stage.width()) * UNITS,
        ((event.clientY - area.top) / this.stage.height()) * UNITS,
      ];
    }

    handle(box, x, y, reach) {
      const across = (reach / this.stage.width()) * UNITS, down = (reach / this.stage.height()) * UNITS;
      const [x1, y1, x2, y2] = box;
      if (x < x1 - across || x > x2 + across || y < y1 - down || y > y2 + down) return null;
      // A small box keeps a middle by which it is moved.
      const inner = (low, high, value, room) => {
        const most = Math.min(room, (high - low) / 3);
        if (value < low + most) return -1;
        return value > high - most ? 1 : 0;
      };
      const side = [inner(x1, x2, x, across), inner(y1, y2, y, down)];
      return side[0] || side[1] ? side : null;
    }

    hits(x, y) {
      const found = this.boxes.map((_, index) => index).filter((index) => {
        const { box: [x1, y1, x2, y2], locked } = this.boxes[index];
        return !locked && x >= x1 && x <= x2 && y >= y1 && y <= y2;
      });
      return found.reverse();
    }

    down(event) {
      if (event.button !== 0 || this.drag) return;
      event.preventDefault();
      this.surface.focus({ preventScroll: true });
      this.surface.setPointerCapture(event.pointerId);
      const [x, y] = this.at(event), chosen = this.boxes[this.selected];
      const drag = { id: event.pointerId, x, y, px: event.clientX, py: event.clientY, moved: false, before: copy(this.state) };
      const over = event.ctrlKey || event.metaKey;
      const side = !over && chosen && !chosen.locked
        ? this.handle(chosen.box, x, y, REACH[event.pointerType] ?? REACH.mouse) : null;
      const hits = over ? [] : this.hits(x, y);
      if (side) Object.assign(drag, { kind: "resize", side, index: this.selected });
      else if (hits.length) {
        const again = hits.includes(this.selected);
        Object.assign(drag, { kind: "move", index: again ? this.selected : hits[0], next: again ? hits[(hits.indexOf(this.selected) + 1) % hits.length] : null });
        this.selected = drag.index;
      } else drag.kind = "draw";
      if (drag.kind !== "draw") drag.box = [...this.boxes[drag.index].box];
      this.drag = drag;
      this.render();
    }

    move(event) {
      const [x, y] = this.at(event), drag = this.drag;
      this.place.textContent = `${clamp(x)}, ${clamp(y)} of ${LAST}`;
      if (!drag) { this.surface.style.cursor = this.cursor(x, y); return; }
      if (event.pointerId !== drag.id) return;
      if (!drag.moved && Math.hypot(event.clientX - drag.px, event.clientY - drag.py) < CLICK) return;
      if (!drag.moved && drag.kind === "draw") {
        this.insert([0, 0, 0, 0]);
        drag.index = this.selected;
      }
      drag.moved = true;
      this.boxes[drag.index].box = this.dragged(drag, x, y);
      this.render();
    }

    dragged({ kind, box, side, x: fromX, y: fromY }, x, y) {
      if (kind === "draw") {
        const xs = [clamp(fromX), clamp(x)].sort((a, b) => a - b), ys = [clamp(fromY), clamp(y)].sort((a, b) => a - b);
        return [xs[0], ys[0], xs[1], ys[1]];
      }
      if (kind === "move") return this.shifted(box, Math.round(x - fromX), Math.round(y - fromY));
      const [dx, dy] = [x - fromX, y - fromY], [x1, y1, x2, y2] = box;
      const xs = [side[0] < 0 ? clamp(x1 + dx) : x1, side[0] > 0 ? clamp(x2 + dx) : x2].sort((a, b) => a - b);
      const ys = [side[1] < 0 ? clamp(y1 + dy) : y1, side[1] > 0 ? clamp(y2 + dy) : y2].sort((a, b) => a - b);
      return [xs[0], ys[0], xs[1], ys[1]];
    }

    shifted([x1, y1, x2, y2], dx, dy) {
      dx = Math.max(-x1, Math.min(LAST - x2, dx)); dy = Math.max(-y1, Math.min(LAST - y2, dy));
      return [x1 + dx, y1 + dy, x2 + dx, y2 + dy];
    }

    up(event) {
      const drag = this.drag;
      if (!drag || event.pointerId !== drag.id) return;
      this.drag = null;
      if (drag.moved) {
        this.done.push(drag.before); this.undone = [];
        this.emit();
        if (drag.kind === "draw") this.rename(drag.index);
        return;
      }
      if (drag.kind === "draw") this.selected = null;
      else if (drag.kind === "move" && drag.next !== null) this.selected = drag.next;
      this.render();
    }

    cancel() {
      if (!this.drag) return false;
      this.state = this.drag.before; this.drag = null;
      if (this.selected >= this.boxes.length) this.selected = null;
      this.render();
      return true;
    }

    cursor(x, y) {
      const chosen = this.boxes[this.selected];
      const side = chosen && !chosen.locked ? this.handle(chosen.box, x, y, REACH.mouse) : null;
      if (!side) return this.hits(x, y).length ? "move" : "crosshair";
      if (!side[0]) return "ns-resize";
      if (!side[1]) return "ew-resize";
      return side[0] === side[1] ? "nwse-resize" : "nesw-resize";
    }

    // -- the keyboard --------------------------------------------------------------------------------------

    key(event) {
      const ctrl = event.ctrlKey || event.metaKey, name = event.key.toLowerCase();
      const acts = {
        delete: () => this.remove(this.selected), backspace: () => this.remove(this.selected),
        escape: () => { if (!this.cancel()) { this.selected = null; this.render(); } },
        n: () => this.add(), enter: () => this.rename(this.selected),
        ".": () => this.choose(1), ",": () => this.choose(-1),
        arrowleft: () => this.nudge(event, -1, 0), arrowright: () => this.nudge(event, 1, 0),
        arrowup: () => this.nudge(event, 0, -1), arrowdown: () => this.nudge(event, 0, 1),
      };
      const act = ctrl ? { z: () => (event.shiftKey ? this.redo() : this.undo()), y: () => this.redo() }[name] : acts[name];
      if (!act) return;
      event.preventDefault();
      act();
    }

    choose(by) {
      const count = this.boxes.length;
      if (!count) return;
      this.selected = this.selected === null ? (by > 0 ? 0 : count - 1) : (this.selected + by + count) % count;
      this.render();
    }

    nudge(event, across, down) {
      const one = this.boxes[this.selected];
      if (!one || one.locked) return;
      const step = event.shiftKey ? LARGE : STEP, [x1, y1, x2, y2] = one.box;
      const box = event.altKey
        ? [x1, y1, Math.max(x1, clamp(x2 + across * step)), Math.max(y1, clamp(y2 + down * step))]
        : this.shifted(one.box, across * step, down * step);
      if (String(box) !== String(one.box)) this.change(() => { one.box = box; });
    }

    // -- what is seen --------------------------------------------------------------------------------------

    colour(index) {
      return this.boxes[index].color || this.palette[index % (this.palette.length || 1)] || "red";
    }

    paint() {
      const width = this.stage.width(), height = this.stage.height();
      const scale = ([x1, y1, x2, y2]) => ({
        x: (x1 / UNITS) * width, y: (y1 / UNITS) * height,
        width: Math.max(1, ((x2 - x1) / UNITS) * width), height: Math.max(1, ((y2 - y1) / UNITS) * height),
      });
      this.layer.destroyChildren();
      this.layer.add(new Konva.Rect({ width, height, fill: this.masks ? "black" : "#f4f4f5" }));
      if (this.image) {
        this.layer.add(new Konva.Image({ image: this.image, width, height, opacity: this.masks ? 0 : this.opacity }));
      }
      for (const ghost of this.ghosts) {
        this.layer.add(new Konva.Rect({ ...scale(ghost), stroke: "#71717a", strokeWidth: 2, dash: [3, 5] }));
      }
      this.boxes.forEach((one, index) => this.paintBox(one, index, scale(one.box)));
      this.layer.batchDraw();
    }

    paintBox(one, index, area) {
      const chosen = index === this.selected, colour = this.colour(index);
      if (this.masks) { this.layer.add(new Konva.Rect({ ...area, fill: colour })); return; }
      this.layer.add(new Konva.Rect({ ...area, stroke: "#18181b", strokeWidth: chosen ? 5 : 3 }));
      this.layer.add(new Konva.Rect({ ...area, stroke: colour, strokeWidth: chosen ? 3 : 2, dash: one.locked ? [8, 4] : [] }));
      const label = new Konva.Label({ x: area.x, y: Math.max(0, area.y - 17) });
      label.add(new Konva.Tag({ fill: "#18181b", opacity: 0.75 }));
      label.add(new Konva.Text({ text: `${index + 1} ${one.phrase}`, fill: "white", fontSize: 12, padding: 2 }));
      this.layer.add(label);
      if (!chosen || one.locked) return;
      for (const across of [0, 0.5, 1]) for (const down of [0, 0.5, 1]) {
        if (across === 0.5 && down === 0.5) continue;
        this.layer.add(new Konva.Rect({
          x: area.x + across * area.width - 5, y: area.y + down * area.height - 5,
          width: 10, height: 10, fill: "white", stroke: "#18181b",
        }));
      }
    }

    render() {
      this.undoButton.disabled = !this.done.length; this.redoButton.disabled = !this.undone.length;
      this.hint.hidden = this.boxes.length > 0;
      while (this.list.children.length > this.boxes.length) this.list.lastChild.remove();
      while (this.list.children.length < this.boxes.length) this.list.append(this.row(this.list.children.length));
      this.boxes.forEach((one, index) => this.fill(this.list.children[index], one, index));
      this.paint();
    }

    row(index) {
      const button = (name, sign, title, act) => make("button", {
        type: "button", textContent: sign, title, ariaLabel: title, data: { do: name }, on: { click: act },
      });
      const choose = () => { if (this.selected !== index) { this.selected = index; this.render(); } };
      return make("li", { on: { pointerdown: choose } },
        make("span", { className: "swatch" }),
        make("input", {
          className: "phrase", ariaLabel: `Name of box ${index + 1}`, maxLength: 200,
          on: { focus: choose, change: (event) => this.renamed(index, event.target), keydown: (event) => {
            if (event.key === "Enter") { event.preventDefault(); event.target.blur(); this.surface.focus(); }
          } },
        }),
        make("output", { className: "corners" }),
        button("up", "↑", "Earlier in the plan", () => this.reorder(index, -1)),
        button("down", "↓", "Later in the plan", () => this.reorder(index, 1)),
        button("lock", "", "Lock", () => {
          this.boxes[index].locked = !this.boxes[index].locked; this.render();
        }),
        button("remove", "×", "Delete", () => this.remove(index)));
    }

    renamed(index, field) {
      const phrase = field.value.trim().replace(/\s+/g, " ");
      if (!phrase) { field.value = this.boxes[index].phrase; return; }
      if (phrase !== this.boxes[index].phrase) this.change(() => { this.boxes[index].phrase = phrase; });
    }

    fill(item, one, index) {
      const [swatch, phrase, corners] = item.children;
      item.className = index === this.selected ? "chosen" : "";
      item.dataset.box = one.box.join(",");
      swatch.style.background = this.colour(index);
      if (document.activeElement !== phrase || phrase.value === "") phrase.value = one.phrase;
      corners.textContent = `(${one.box[0]},${one.box[1]}),(${one.box[2]},${one.box[3]})`;
      item.querySelector("[data-do=lock]").textContent = one.locked ? "locked" : "lock";
      item.querySelector("[data-do=lock]").setAttribute("aria-pressed", String(one.locked));
    }
  }

  function mount(element, props, trigger, watch) {
    const canvas = new PlanCanvas((value) => { props.value = value; trigger("input"); });
    const place = () => {
      const host = element.querySelector(".host");
      if (host && canvas.root.parentNode !== host) host.replaceChildren(canvas.root);
    };
    const read = () => { place(); canvas.show(props.picture || null); canvas.load(props.value, props.palette); };
    read();
    watch(["value", "picture"], read);
  }

  window.GotStudio = { ...(window.GotStudio || {}), canvas: mount, make };
})();
