// A plan's boxes as values: what changes them, with undo and redo, and what lies under a point. Coordinates are
// thousandths of the sides.
//
// Belongs here: all that needs no page. Not here: pointer, keys and painting (canvas.js); what a changed box does to
// the chain (plans.py), which takes {chain, boxes}: `from` of a box is its number in `chain`, null for a new one.
(() => {
  "use strict";
  const UNITS = 1000, LAST = UNITS - 1, MOST_UNDO = 200;
  const NEW_PHRASE = "an object";
  const clamp = (value) => Math.min(LAST, Math.max(0, Math.round(value)));
  const copy = (value) => JSON.parse(JSON.stringify(value));

  function shifted([x1, y1, x2, y2], dx, dy) {
    dx = Math.max(-x1, Math.min(LAST - x2, dx)); dy = Math.max(-y1, Math.min(LAST - y2, dy));
    return [x1 + dx, y1 + dy, x2 + dx, y2 + dy];
  }

  // Which side or corner of a box a point takes hold of: [-1, 0 or 1 across, the same down]; null for none.
  // `across`, `down`: how far a hand reaches.
  function handle([x1, y1, x2, y2], x, y, across, down) {
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

  // The box of a drag {kind, box, side, x, y} that has come to a point.
  function dragged({ kind, box, side, x: fromX, y: fromY }, x, y) {
    const ordered = (a, b) => [clamp(a), clamp(b)].sort((one, other) => one - other);
    if (kind === "move") return shifted(box, Math.round(x - fromX), Math.round(y - fromY));
    const [x1, y1, x2, y2] = kind === "draw" ? [fromX, fromY, x, y] : box;
    const [dx, dy] = kind === "draw" ? [0, 0] : [x - fromX, y - fromY];
    const pulled = (value, by, wanted, end) => (wanted === end ? value + by : value);
    const [across, down] = side ?? [0, 0];
    const xs = ordered(pulled(x1, dx, across, -1), pulled(x2, dx, across, 1));
    const ys = ordered(pulled(y1, dy, down, -1), pulled(y2, dy, down, 1));
    return [xs[0], ys[0], xs[1], ys[1]];
  }

  class Boxes {
    // `changed`: called after each change that an artist made.
    constructor(changed) {
      this.changed = changed;
      this.state = { chain: "", boxes: [] };
      this.done = []; this.undone = []; this.selected = null;
    }

    get all() { return this.state.boxes; }
    get chosen() { return this.all[this.selected]; }

    // -- time ----------------------------------------------------------------------------------------------

    // Another plan, from elsewhere; whether it is one.
    load(next) {
      if (JSON.stringify(next) === JSON.stringify(this.state)) return false;
      if (this.state.chain) this.remember(this.state);
      this.put(next);
      return true;
    }

    put(state) {
      this.state = state;
      if (this.selected >= this.all.length) this.selected = null;
    }

    remember(state) {
      this.done.push(copy(state));
      if (this.done.length > MOST_UNDO) this.done.shift();
      this.undone = [];
    }

    change(act) { this.remember(this.state); act(); this.changed(); }
    undo() { this.step(this.done, this.undone); }
    redo() { this.step(this.undone, this.done); }

    step(from, to) {
      if (!from.length) return;
      to.push(copy(this.state));
      this.put(from.pop());
      this.changed();
    }

    // -- changes -------------------------------------------------------------------------------------------

    insert(box) {
      this.all.push({ from: null, phrase: NEW_PHRASE, box, locked: false });
      this.selected = this.all.length - 1;
    }

    add() { this.change(() => this.insert(this.free(200))); }

    // A square where the least of other boxes lies, the nearer to the middle the better.
    free(side) {
      const shared = ([a, b, c, d], [x1, y1, x2, y2]) =>
        Math.max(0, Math.min(c, x2) - Math.max(a, x1)) * Math.max(0, Math.min(d, y2) - Math.max(b, y1));
      let best = null, least = Infinity;
      for (let x = 0; x <= LAST - side; x += 50) for (let y = 0; y <= LAST - side; y += 50) {
        const box = [x, y, x + side, y + side];
        const cost = 1000 * this.all.reduce((sum, one) => sum + shared(box, one.box), 0)
          + Math.hypot(x + side / 2 - UNITS / 2, y + side / 2 - UNITS / 2);
        if (cost < least) { best = box; least = cost; }
      }
      return best;
    }

    remove(index) {
      if (!this.all[index] || this.all[index].locked) return;
      this.change(() => {
        this.all.splice(index, 1);
        this.selected = null;
      });
    }

    reorder(index, by) {
      const to = index + by;
      if (!this.all[index] || to < 0 || to >= this.all.length) return;
      this.change(() => {
        const [one] = this.all.splice(index, 1);
        this.all.splice(to, 0, one);
        this.selected = to;
      });
    }

    rename(index, text) {
      const phrase = text.trim().replace(/\s+/g, " ");
      if (!phrase || phrase === this.all[index].phrase) return;
      this.change(() => { this.all[index].phrase = phrase; });
    }

    // The chosen box moved, or its right lower corner.
    nudge(dx, dy, corner) {
      const one = this.chosen;
      if (!one || one.locked) return;
      const [x1, y1, x2, y2] = one.box;
      const box = corner
        ? [x1, y1, Math.max(x1, clamp(x2 + dx)), Math.max(y1, clamp(y2 + dy))] : shifted(one.box, dx, dy);
      if (String(box) !== String(one.box)) this.change(() => { one.box = box; });
    }

    lock(index) { if (this.all[index]) this.all[index].locked = !this.all[index].locked; }

    choose(by) {
      const count = this.all.length;
      if (!count) return;
      this.selected = this.selected === null ? (by > 0 ? 0 : count - 1) : (this.selected + by + count) % count;
    }

    // -- places --------------------------------------------------------------------------------------------

    // Numbers of the boxes under a point that can be moved, the last in the plan first.
    under(x, y) {
      return this.all.map((_, index) => index).filter((index) => {
        const { box: [x1, y1, x2, y2], locked } = this.all[index];
        return !locked && x >= x1 && x <= x2 && y >= y1 && y <= y2;
      }).reverse();
    }

    // A box whose edge lies within reach of a point beside it, as a press there begins to resize it; null for none.
    edge(x, y, across, down) {
      for (let index = this.all.length - 1; index >= 0; index -= 1) {
        const { box, locked } = this.all[index], side = locked ? null : handle(box, x, y, across, down);
        if (side) return { kind: "resize", side, index, box: [...box], x, y };
      }
      return null;
    }

    // What a press at a point begins: {kind, index, side, box, x, y}; `next` is chosen where it was a click.
    grab(x, y, [across, down], over) {
      const side = !over && this.chosen && !this.chosen.locked ? handle(this.chosen.box, x, y, across, down) : null;
      if (side) return { kind: "resize", side, index: this.selected, box: [...this.chosen.box], x, y };
      const found = over ? [] : this.under(x, y);
      if (!found.length) return (!over && this.edge(x, y, across, down)) || { kind: "draw", x, y };
      const again = found.indexOf(this.selected), index = again < 0 ? found[0] : this.selected;
      const next = again < 0 ? null : found[(again + 1) % found.length];
      return { kind: "move", index, next, box: [...this.all[index].box], x, y };
    }
  }

  window.GotStudio = { ...(window.GotStudio || {}), Boxes, boxes: { UNITS, LAST, clamp, copy, dragged } };
})();
