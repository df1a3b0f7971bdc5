// Pictures of a session: two over each other with a slider between them, and the rounds to go back to.
//
// Belongs here: showing them, and which one was chosen. Not here: which rounds there are (project.py).
(() => {
  "use strict";
  const { make } = window.GotStudio;

  function compare(element, props, trigger, watch) {
    const before = make("img", { className: "before", alt: "before" });
    const after = make("img", { className: "after", alt: "after" });
    const heat = make("img", { className: "heat", alt: "what changed outside of the boxes", hidden: true });
    const slider = make("input", { type: "range", min: 0, max: 100, value: 50, ariaLabel: "How much of the picture before shows" });
    const line = make("div", { className: "line" });
    const cut = () => { after.style.clipPath = `inset(0 0 0 ${slider.value}%)`; line.style.left = `${slider.value}%`; };
    slider.addEventListener("input", cut);
    const heated = make("input", { type: "checkbox", on: { change: () => { heat.hidden = !heated.checked; } } });
    const said = make("p");
    const root = make("div", { className: "got-compare" },
      make("div", { className: "ends" }, make("span", { textContent: "◀ before" }), make("span", { textContent: "after ▶" })),
      make("div", { className: "pair" }, before, after, heat, line),
      make("div", { className: "between" }, slider),
      make("label", {}, heated, " Show what changed outside of the boxes"), said);
    const read = () => {
      const host = element.querySelector(".host"), value = props.value;
      if (host && root.parentNode !== host) host.replaceChildren(root);
      root.hidden = !value;
      if (!value) return;
      before.src = value.before; after.src = value.after; heat.src = value.heat; said.textContent = value.said;
      cut();
    };
    read();
    watch("value", read);
  }

  function rounds(element, props, trigger, watch) {
    const root = make("ol", { className: "got-rounds" });
    const said = (one) => `${one.id}${one.parent ? ` ← ${one.parent}` : ""}: ${one.said}`;
    const read = () => {
      const host = element.querySelector(".host");
      if (host && root.parentNode !== host) host.replaceChildren(root);
      const { shown, list } = props.value || { list: [] };
      root.replaceChildren(...list.map((one) => make("li",
        { className: one.id === shown ? "shown" : "", data: { round: one.id } },
        make("button", {
          type: "button", title: `Go on from round ${one.id}`,
          on: { click: () => trigger("select", { round: one.id }) },
        }, make("img", { src: one.picture, alt: `round ${one.id}` })),
        make("span", { textContent: said(one) }),
        make("button", {
          type: "button", className: "save", textContent: "Save PNG",
          on: { click: () => trigger("download", { round: one.id }) },
        }))));
    };
    read();
    watch("value", read);
  }

  Object.assign(window.GotStudio, { compare, rounds });
})();
