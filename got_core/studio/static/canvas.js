// The canvas of a plan: boxes over the last picture, and their list.
//
// Belongs here: pointer, keys, painting. Not here: what they do to boxes (boxes.js). Every change is sent as
// {chain, boxes, rev, seen}; `seen` is the text that stood beside the canvas then.
(() => {
  "use strict";
  const { Boxes, boxes: { UNITS, LAST, clamp, copy, dragged } } = window.GotStudio;
  const CHOSEN = "#60a5fa";
  const STEP = 10, LARGE = 50, CLICK = 3;
  const REACH = { mouse: 10, pen: 14, touch: 22 };

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
      this.plan = new Boxes(() => this.emit());
      this.drag = null; this.masks = false; this.opacity = 1;
      this.palette = []; this.ghosts = []; this.image = null; this.aspect = 1; this.source = null;
      this.count = 0; this.rev = null;
      this.build();
    }

    // -- the page ------------------------------------------------------------------------------------------

    build() {
      const button = (name, title, act) => make("button", {
        type: "button", textContent: name, title, data: { do: name.toLowerCase() }, on: { click: act },
      });
      this.undoButton = button("Undo", "Ctrl+Z", () => this.plan.undo());
      this.redoButton = button("Redo", "Ctrl+Shift+Z", () => this.plan.redo());
      this.place = make("output", { className: "place" });
      const opacity = make("input", {
        type: "range", min: 0, max: 100, value: 100, title: "How much of the picture shows",
        on: { input: (event) => { this.opacity = event.target.value / 100; this.paint(); } },
      });
      opacity.dataset.do = "opacity";
      const masks = make("input", {
        type: "checkbox", data: { do: "masks" },
        on: { change: (event) => { this.masks = event.target.checked; this.render(); } },
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
          button("Delete", "The chosen box (Delete)", () => this.plan.remove(this.plan.selected)),
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
      if (this.plan.load({ chain: value.chain || "", boxes: copy(value.boxes || []) })) this.drag = null;
      this.render();
    }

    emit() {
      this.rev = "page-" + Date.now() + "-" + (this.count += 1);
      this.ghosts = []; this.drag = null;
      this.render();
      const seen = document.querySelector("#text textarea")?.value ?? "";
      this.send({ ...copy(this.plan.state), rev: this.rev, seen });
    }

    add() {
      this.plan.add();
      this.rename(this.plan.selected);
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

    reach(kind) {
      const reach = REACH[kind] ?? REACH.mouse;
      return [(reach / this.stage.width()) * UNITS, (reach / this.stage.height()) * UNITS];
    }

    down(event) {
      if (event.button !== 0 || this.drag) return;
      event.preventDefault();
      this.surface.focus({ preventScroll: true });
      this.surface.setPointerCapture(event.pointerId);
      const [x, y] = this.at(event);
      this.drag = {
        ...this.plan.grab(x, y, this.reach(event.pointerType), event.ctrlKey || event.metaKey),
        id: event.pointerId, px: event.clientX, py: event.clientY, moved: false, before: copy(this.plan.state),
      };
      if (this.drag.kind !== "draw") this.plan.selected = this.drag.index;
      this.render();
    }

    move(event) {
      const [x, y] = this.at(event), drag = this.drag;
      this.place.textContent = `${clamp(x)}, ${clamp(y)} of ${LAST}`;
      if (!drag) { this.surface.style.cursor = this.cursor(x, y); return; }
      if (event.pointerId !== drag.id) return;
      if (!drag.moved && Math.hypot(event.clientX - drag.px, event.clientY - drag.py) < CLICK) return;
      if (!drag.moved && drag.kind === "draw") {
        this.plan.insert([0, 0, 0, 0]);
        drag.index = this.plan.selected;
      }
      drag.moved = true;
      this.plan.all[drag.index].box = dragged(drag, x, y);
      this.render();
    }

    up(event) {
      const drag = this.drag;
      if (!drag || event.pointerId !== drag.id) return;
      this.drag = null;
      if (drag.moved) {
        this.plan.remember(drag.before);
        this.emit();
        if (drag.kind === "draw") this.rename(drag.index);
        return;
      }
      if (drag.kind === "draw") this.plan.selected = null;
      else if (drag.kind === "move" && drag.next !== null) this.plan.selected = drag.next;
      this.render();
    }

    cancel() {
      if (!this.drag) return false;
      this.plan.put(this.drag.before); this.drag = null;
      this.render();
      return true;
    }

    cursor(x, y) {
      const { kind, side } = this.plan.grab(x, y, this.reach("mouse"), false);
      if (!side) return { move: "move", draw: "crosshair" }[kind];
      if (!side[0]) return "ns-resize";
      if (!side[1]) return "ew-resize";
      return side[0] === side[1] ? "nwse-resize" : "nesw-resize";
    }

    // -- the keyboard --------------------------------------------------------------------------------------

    key(event) {
      const ctrl = event.ctrlKey || event.metaKey, name = event.key.toLowerCase(), { plan } = this;
      const remove = () => plan.remove(plan.selected);
      const seen = (act) => () => { act(); this.render(); };
      const by = event.shiftKey ? LARGE : STEP, nudge = (dx, dy) => () => plan.nudge(dx * by, dy * by, event.altKey);
      const acts = {
        delete: remove, backspace: remove, n: () => this.add(), enter: () => this.rename(plan.selected),
        escape: seen(() => { if (!this.cancel()) plan.selected = null; }),
        ".": seen(() => plan.choose(1)), ",": seen(() => plan.choose(-1)), l: seen(() => plan.lock(plan.selected)),
        "[": () => plan.reorder(plan.selected, -1), "]": () => plan.reorder(plan.selected, 1),
        arrowleft: nudge(-1, 0), arrowright: nudge(1, 0), arrowup: nudge(0, -1), arrowdown: nudge(0, 1),
      };
      const withCtrl = { z: () => (event.shiftKey ? plan.redo() : plan.undo()), y: () => plan.redo() };
      const act = (ctrl ? withCtrl : acts)[name];
      if (!act) return;
      event.preventDefault();
      act();
    }

    // -- what is seen --------------------------------------------------------------------------------------

    colour(index) {
      return this.palette[index % this.palette.length] || "red";
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
      this.plan.all.forEach((one, index) => this.paintBox(one, index, scale(one.box)));
      this.layer.batchDraw();
    }

    paintBox(one, index, area) {
      const chosen = index === this.plan.selected, colour = chosen ? CHOSEN : "white";
      if (this.masks) { this.layer.add(new Konva.Rect({ ...area, fill: this.colour(index) })); return; }
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
      const { all, done, undone } = this.plan;
      this.undoButton.disabled = !done.length; this.redoButton.disabled = !undone.length;
      this.hint.hidden = all.length > 0;
      while (this.list.children.length > all.length) this.list.lastChild.remove();
      while (this.list.children.length < all.length) this.list.append(this.row(this.list.children.length));
      all.forEach((one, index) => this.fill(this.list.children[index], one, index));
      this.paint();
    }

    row(index) {
      const button = (name, sign, title, act) => make("button", {
        type: "button", textContent: sign, title, ariaLabel: title, data: { do: name }, on: { click: act },
      });
      const { plan } = this;
      const choose = () => { if (plan.selected !== index) { plan.selected = index; this.render(); } };
      return make("li", { on: { pointerdown: choose } },
        make("span", { className: "swatch" }),
        make("input", {
          className: "phrase", ariaLabel: `Name of box ${index + 1}`, maxLength: 200,
          on: { focus: choose, change: (event) => this.renamed(index, event.target), keydown: (event) => {
            if (event.key === "Enter") { event.preventDefault(); event.target.blur(); this.surface.focus(); }
          } },
        }),
        make("output", { className: "corners" }),
        button("up", "↑", "Earlier in the plan", () => plan.reorder(index, -1)),
        button("down", "↓", "Later in the plan", () => plan.reorder(index, 1)),
        button("lock", "", "Lock", () => { plan.lock(index); this.render(); }),
        button("remove", "×", "Delete", () => plan.remove(index)));
    }

    renamed(index, field) {
      this.plan.rename(index, field.value);
      field.value = this.plan.all[index].phrase;
    }

    fill(item, one, index) {
      const [swatch, phrase, corners] = item.children;
      item.className = index === this.plan.selected ? "chosen" : "";
      item.dataset.box = one.box.join(",");
      swatch.style.background = this.colour(index);
      swatch.hidden = !this.masks;  // else its colour would be taken for the object's
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
