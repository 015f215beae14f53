"use strict";
/* The training runs: any diagnostic of any cells of an item, with all seeds, and a fresh network where there is one. */
(function () {
  const runs = (lop.runs = {});

  /** The mean over seeds, task by task, of as many tasks as all have. */
  runs.mean = function (seeds) {
    const rows = Object.values(seeds), length = Math.min(...rows.map((row) => row.length));
    return Array.from({ length }, (_, k) => rows.reduce((sum, row) => sum + (row[k] === null ? NaN : row[k]), 0) / rows.length);
  };

  /** Load the runs of an item, once; a script hands them to `lop.data`, as pages on a disk cannot fetch. */
  runs.load = (name) => new Promise((resolve, reject) => {
    if (lop.data[`runs-${name}`]) return resolve(lop.data[`runs-${name}`]);
    const script = lop.make("script", { src: `${document.getElementById("runs-explorer").dataset.folder}runs-${name}.js` });
    script.addEventListener("load", () => resolve(lop.data[`runs-${name}`]));
    script.addEventListener("error", () => reject(new Error(`the runs of ${name} could not be read`)));
    document.head.append(script);
  });

  const FIRST = ["online_accuracy", "return", "loss", "online_loss"];

  lop.start("runs-explorer", function (host) {
    const listed = lop.data.runs, names = Object.keys(listed);
    const about = lop.make("p", { id: "r-about", "aria-live": "polite" }), picks = lop.make("div", { class: "controls" });
    const cells = lop.make("fieldset", { class: "cells" }), box = lop.make("div", {}), said = lop.make("p", { id: "r-said" });
    const item = lop.choice("r-item", names, names[0]), metric = lop.make("select", { id: "r-metric" }), one = lop.make("input", { type: "checkbox", id: "r-seeds" });
    one.checked = true;
    picks.append(lop.control("item", item, () => open()), lop.control("diagnostic", metric, () => show()), lop.control("every seed", one, () => show()));
    host.append(picks, about, cells, box, said);
    const axes = { x: { label: "task", least: 1, whole: true }, y: { label: "value" } };
    const draw = lop.chart(box, { label: "A diagnostic over the tasks", zoom: true, ...axes });
    let data = null;
    async function open() {
      try { data = await runs.load(item.value); } catch (error) { said.textContent = error.message; return; }
      about.textContent = data.about;
      const all = Object.keys(data.cells), chosen = all.filter((cell) => /^(none|plain|fresh)/.test(cell)).slice(0, 2);
      if (!chosen.length) chosen.push(...all.slice(0, 2));
      cells.replaceChildren(lop.make("legend", {}, "cells"), ...all.map((cell) => {
        const box = lop.make("input", { type: "checkbox", value: cell, change: () => show() });
        box.checked = chosen.includes(cell);
        return lop.make("label", {}, box, cell);
      }));
      const metrics = [...new Set(all.flatMap((cell) => Object.keys(data.cells[cell])))].sort(), before = metric.value;
      metric.replaceChildren(...metrics.map((m) => lop.make("option", { value: m }, m)));
      metric.value = metrics.includes(before) ? before : FIRST.find((m) => metrics.includes(m)) || metrics[0];
      show();
    }
    function show() {
      const lines = [], lost = [];
      axes.y.label = metric.value;
      [...cells.querySelectorAll("input:checked")].forEach((input, k) => {
        const seeds = data.cells[input.value][metric.value];
        if (!seeds) return lost.push(input.value);
        const count = Object.keys(seeds).length, mean = runs.mean(seeds), tasks = (row) => row.map((_, t) => t + 1);
        if (one.checked && count > 1) for (const row of Object.values(seeds)) lines.push({ name: input.value, x: tasks(row), y: row.map((v) => (v === null ? NaN : v)), colour: k % 8, faint: true });
        lines.push({ name: `${input.value} (${count > 1 ? `mean of ${count} seeds` : "one seed"})`, x: tasks(mean), y: mean, colour: k % 8 });
      });
      runs.shown = lines;
      draw(lines);
      said.textContent = !cells.querySelector("input:checked") ? "Check a cell to see its runs." : lost.length ? `Not measured there: ${lost.join(", ")}.` : "";
    }
    open();
  });
})();
