"use strict";
/* The table of optimizers: a sign a cell, and what was measured behind it. */
(function () {
  const table = (lop.optimizers = {});

  /** What a cell says, as `optimizer_table.markdown` has it. */
  table.words = function (cell) {
    const { equations, coset } = cell.verdict, say = (x) => (x === null ? "∞" : lop.say(x, 1));
    const first = cell.coset[0], last = cell.coset[cell.coset.length - 1], most = cell.coset.includes(null) ? null : Math.max(...cell.coset);
    if (equations === "✓" && coset !== "✓") return `equations ✓, coset ${coset} ${say(last)}`;
    return `${coset} ${{ "✓": say(last), "⚠": `${say(first)} → ${say(last)}`, "✗": say(most) }[coset]}`;
  };

  lop.start("optimizers-explorer", function (host) {
    const data = lop.data.optimizers;
    const filter = lop.make("input", { type: "search", id: "o-filter", placeholder: "adam" });
    host.append(lop.make("div", { class: "controls" }, lop.control("rules whose name has", filter, () => {})));
    const body = lop.make("tbody", {}), detail = lop.make("div", { id: "o-detail" });
    host.append(lop.make("div", { class: "wide", tabindex: 0, role: "region", "aria-label": "Rules and kinds of clones" },
      lop.make("table", { class: "optimizers" }, lop.make("thead", {}, lop.make("tr", {}, lop.make("th", { scope: "col" }, "rule"), ...data.manifolds.map((m) => lop.make("th", { scope: "col" }, m)))), body)), detail);
    const title = lop.make("p", { class: "picked", id: "o-picked", "aria-live": "polite" }), box = lop.make("div", {}), numbers = lop.make("div", { class: "wide", tabindex: 0, role: "region", "aria-label": "What was measured" });
    detail.append(title, box, numbers);
    const draw = lop.chart(box, { label: "Violation over the steps", x: { label: "step", log: true }, y: { label: "relative violation", log: true } });
    let pressed = null, picked = "";
    function pick(rule, kind, button) {
      const cell = data.cells[`${rule}|${kind}`];
      if (pressed) pressed.setAttribute("aria-pressed", "false");
      pressed = button; picked = `${rule}|${kind}`; detail.hidden = false;
      button.setAttribute("aria-pressed", "true");
      title.textContent = `${rule} on ${kind}: equations of clones ${cell.verdict.equations}, coset ${cell.verdict.coset}.`;
      const positive = (list) => list.map((v) => (v === null ? NaN : Math.max(v, 1e-17)));
      draw([{ name: "equations: are copies still copies?", x: cell.steps, y: positive(cell.equations), colour: 0 },
        { name: "coset: have they left the set that gradients keep?", x: cell.steps, y: positive(cell.coset), colour: 1, dash: "5 4" },
        { name: "kept: below this at the end", x: [1, cell.steps[cell.steps.length - 1]], y: [1e-12, 1e-12], colour: 7, dash: "2 3" },
        { name: "left: above this within 30 steps", x: [1, 30], y: [1e-3, 1e-3], colour: 3, dash: "2 3" }]);
      const row = (name, list) => lop.make("tr", {}, lop.make("th", { scope: "row" }, name), ...list.map((v) => lop.make("td", {}, typeof v === "number" && v % 1 === 0 && v > 0 ? String(v) : lop.say(v, 3))));
      numbers.replaceChildren(lop.make("table", { class: "measured" }, lop.make("tbody", {}, row("step", cell.steps), row("equations", cell.equations), row("coset", cell.coset))));
    }
    function rows() {
      const wanted = filter.value.trim().toLowerCase();
      const found = data.rules.filter((rule) => rule.toLowerCase().includes(wanted));
      if (!found.some((rule) => picked.startsWith(`${rule}|`))) { picked = ""; pressed = null; detail.hidden = true; }
      if (!found.length) return body.replaceChildren(lop.make("tr", {}, lop.make("td", { colspan: data.manifolds.length + 1, id: "o-none" }, `No rule has “${filter.value.trim()}” in its name.`)));
      body.replaceChildren(...found.map((rule) => lop.make("tr", {}, lop.make("th", { scope: "row" }, rule),
        ...data.manifolds.map((kind) => {
          const cell = data.cells[`${rule}|${kind}`];
          const button = lop.make("button", { type: "button", class: { "✓": "kept", "✗": "left", "⚠": "drifts" }[cell.verdict.coset === "✓" ? "✓" : cell.verdict.equations === "✓" ? "⚠" : cell.verdict.coset], "aria-pressed": "false", "aria-label": `${rule}, ${kind}: ${table.words(cell)}` }, table.words(cell));
          if (picked === `${rule}|${kind}`) { pressed = button; button.setAttribute("aria-pressed", "true"); }
          button.addEventListener("click", () => pick(rule, kind, button));
          return lop.make("td", {}, button);
        }))));
    }
    filter.addEventListener("input", rows);
    rows();
    pick(data.rules[0], data.manifolds[0], body.querySelector("button"));
  });
})();
