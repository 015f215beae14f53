"use strict";
/* A network with two inputs, one hidden layer and one output, trained on 24 samples: its clones, frozen units and quotient. */
(function () {
  const net = (lop.network = {});
  const ACTIVATIONS = {
    tanh: [Math.tanh, (z, h) => 1 - h * h],
    relu: [(z) => Math.max(z, 0), (z) => (z > 0 ? 1 : 0)],
  };

  /** Loss ½ mean (out − y)² and its gradient; `w` has `inner` (rows of two weights and a bias) and `outer` (weights, a bias). */
  net.loss = function (w, data, activation) {
    const [phi, slope] = ACTIVATIONS[activation], n = data.y.length, units = w.inner.length;
    const inner = w.inner.map(() => [0, 0, 0]), outer = w.outer.map(() => 0);
    const active = w.inner.map(() => false);
    let loss = 0;
    for (let k = 0; k < n; k++) {
      const x = [data.x[0][k], data.x[1][k], 1], z = [], h = [];
      let out = w.outer[units];
      for (let u = 0; u < units; u++) {
        z[u] = w.inner[u][0] * x[0] + w.inner[u][1] * x[1] + w.inner[u][2];
        h[u] = phi(z[u]);
        out += w.outer[u] * h[u];
      }
      const e = (out - data.y[k]) / n;
      loss += ((out - data.y[k]) ** 2) / (2 * n);
      outer[units] += e;
      for (let u = 0; u < units; u++) {
        const s = slope(z[u], h[u]);
        if (s !== 0) active[u] = true;
        outer[u] += e * h[u];
        for (let i = 0; i < 3; i++) inner[u][i] += e * w.outer[u] * s * x[i];
      }
    }
    return { loss, gradient: { inner, outer }, active };
  };

  const flat = (w) => [...w.inner.flat(), ...w.outer];
  const shaped = (v, units) => ({ inner: Array.from({ length: units }, (_, u) => v.slice(3 * u, 3 * u + 3)), outer: v.slice(3 * units) });
  net.flat = flat;

  /** Update rules as `(state, w, g, rate) → state`, in place; those of `simulate.optimizers`. */
  net.rules = {
    "SGD": (state, w, g, rate) => { for (let i = 0; i < w.length; i++) w[i] -= rate * g[i]; return 1; },
    "momentum": (state, w, g, rate) => {
      const b = state ? state.map((old, i) => 0.9 * old + g[i]) : [...g];
      for (let i = 0; i < w.length; i++) w[i] -= rate * b[i];
      return b;
    },
    "Adam": (state, w, g, rate) => adam(state, w, g, rate, 0),
    "AdamW, decay 0.1": (state, w, g, rate) => adam(state, w, g, rate, 0.1),
    "SGD, decay 0.01": (state, w, g, rate) => { for (let i = 0; i < w.length; i++) w[i] -= rate * (g[i] + 0.01 * w[i]); return 1; },
  };
  function adam(state, w, g, rate, decay) {
    const s = state || { t: 0, m: g.map(() => 0), v: g.map(() => 0) };
    s.t++;
    for (let i = 0; i < w.length; i++) {
      w[i] *= 1 - rate * decay;
      s.m[i] = 0.9 * s.m[i] + (1 - 0.9) * g[i];
      s.v[i] = 0.999 * s.v[i] + (1 - 0.999) * g[i] * g[i];
      w[i] -= (rate * (s.m[i] / (1 - 0.9 ** s.t))) / (Math.sqrt(s.v[i] / (1 - 0.999 ** s.t)) + 1e-8);
    }
    return s;
  }
  net.rates = { "SGD": 0.5, "momentum": 0.1, "Adam": 0.02, "AdamW, decay 0.1": 0.02, "SGD, decay 0.01": 0.5 };

  /* Standard normal draws from a seed (mulberry32, Box and Muller). */
  net.normals = function (seed) {
    let s = seed >>> 0;
    const uniform = () => {
      s = (s + 0x6d2b79f5) >>> 0;
      let t = Math.imul(s ^ (s >>> 15), 1 | s);
      t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
      return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
    };
    return () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform());
  };

  /** The start: `cloned` has every unit of the base twice, `frozen` two units that no sample reaches, `fresh` neither. */
  net.start = function (kind, data, apart = 0) {
    if (kind === "fresh") return structuredClone(data.fresh);
    if (kind === "frozen") {
      const w = structuredClone(data.fresh);
      w.inner[1][2] = w.inner[4][2] = -10;
      return w;
    }
    const inner = data.base.inner.flatMap((row) => [[...row], [...row]]);
    const outer = [...data.base.outer.slice(0, 3).flatMap((v) => [v / 2, v / 2]), data.base.outer[3]];
    if (apart) { const draw = net.normals(5); for (let u = 1; u < 6; u += 2) for (let i = 0; i < 3; i++) inner[u][i] += apart * draw(); }
    return { inner, outer };
  };

  /** Take steps of a rule in place: `run` has `w`, `rule`, `rate`, `noise`, `activation`, `draw` and `state`. */
  net.step = function (run, data) {
    const units = run.w.inner.length, { gradient } = net.loss(run.w, data, run.activation);
    const v = flat(run.w), g = flat(gradient);
    if (run.noise) for (let i = 0; i < g.length; i++) g[i] += run.noise * run.draw();
    run.state = net.rules[run.rule](run.state, v, g, run.rate);
    run.w = shaped(v, units);
  };

  /** Take a step of the quotient of clones, a unit a pair: a weight moves as the sum of the two that it stands for. */
  net.quotientStep = function (run, data) {
    const { gradient } = net.loss(run.w, data, run.activation), units = run.w.inner.length;
    // what one copy has: its in-weights are those of the base and get half of the gradient, its out-weight is half
    const v = flat({ inner: run.w.inner, outer: run.w.outer.map((o, k) => (k < units ? o / 2 : o)) });
    const g = flat({ inner: gradient.inner.map((row) => row.map((x) => x / 2)), outer: gradient.outer });
    run.state = net.rules[run.rule](run.state, v, g, run.rate);
    const w = shaped(v, units);
    run.w = { inner: w.inner, outer: w.outer.map((o, k) => (k < units ? 2 * o : o)) };
  };

  /** Whether training has diverged: weights that are no numbers have no certificate, and beyond a million differences of the gradient are noise. */
  net.diverged = (w, data, activation) => flat(w).some((v) => !(Math.abs(v) < 1e6)) || !Number.isFinite(net.loss(w, data, activation).loss);

  /** The certificate of the weights: units frozen on all samples, sets of exact copies, and the free dimensions; null if training has diverged. */
  net.certificate = function (w, data, activation) {
    if (net.diverged(w, data, activation)) return null;
    const { active } = net.loss(w, data, activation), units = w.inner.length, sets = new Map();
    for (let u = 0; u < units; u++) {
      const key = [...w.inner[u], w.outer[u]].join();
      sets.set(key, [...(sets.get(key) || []), u]);
    }
    const frozen = active.map((alive, u) => (alive ? -1 : u)).filter((u) => u >= 0);
    const copies = [...sets.values()].filter((set) => set.length > 1);
    const held = new Set([...frozen, ...copies.flatMap((set) => set.slice(1))]);
    return { frozen, copies, parameters: 4 * units + 1, dimension: 4 * (units - held.size) + 1 };
  };

  /** How far the weights are from the set on which the pairs of units are copies, and how far from the start frozen ones went. */
  net.apart = function (w) {
    let square = 0;
    for (let u = 0; u + 1 < w.inner.length; u += 2) {
      for (let i = 0; i < 3; i++) square += (w.inner[u][i] - w.inner[u + 1][i]) ** 2 / 2;
      square += (w.outer[u] - w.outer[u + 1]) ** 2 / 2;
    }
    return Math.sqrt(square);
  };

  /** The Hessian along (e_u − e_v)/√2 of every weight of a pair of copies, by central differences of the gradient. */
  net.normalHessian = function (w, data, activation, step = 1e-4) {
    const units = w.inner.length, pairs = units / 2, size = 4 * pairs, H = [];
    const place = (j) => { const p = Math.floor(j / 4), i = j % 4; return i < 3 ? [3 * 2 * p + i, 3 * (2 * p + 1) + i] : [3 * units + 2 * p, 3 * units + 2 * p + 1]; };
    const slope = (v) => { const g = flat(net.loss(shaped(v, units), data, activation).gradient); return Array.from({ length: size }, (_, j) => { const [a, b] = place(j); return (g[a] - g[b]) / Math.SQRT2; }); };
    for (let j = 0; j < size; j++) {
      const [a, b] = place(j), up = flat(w), down = flat(w);
      up[a] += step / Math.SQRT2; up[b] -= step / Math.SQRT2; down[a] -= step / Math.SQRT2; down[b] += step / Math.SQRT2;
      const one = slope(up), two = slope(down);
      H.push(one.map((x, k) => (x - two[k]) / (2 * step)));
    }
    return H.map((row, j) => row.map((x, k) => (x + H[k][j]) / 2));
  };

  /** Eigenvalues of a symmetric matrix, ascending, by Jacobi's rotations. */
  net.eigenvalues = function (given) {
    const A = given.map((row) => [...row]), n = A.length;
    for (let sweep = 0; sweep < 50; sweep++) {
      let off = 0;
      for (let p = 0; p < n; p++) for (let q = p + 1; q < n; q++) {
        off += A[p][q] ** 2;
        if (Math.abs(A[p][q]) < 1e-300) continue;
        const theta = (A[q][q] - A[p][p]) / (2 * A[p][q]), t = Math.sign(theta || 1) / (Math.abs(theta) + Math.hypot(theta, 1)), c = 1 / Math.hypot(t, 1), s = t * c;
        for (let k = 0; k < n; k++) [A[k][p], A[k][q]] = [c * A[k][p] - s * A[k][q], s * A[k][p] + c * A[k][q]];
        for (let k = 0; k < n; k++) [A[p][k], A[q][k]] = [c * A[p][k] - s * A[q][k], s * A[p][k] + c * A[q][k]];
      }
      if (off < 1e-26) break;
    }
    return A.map((row, k) => row[k]).sort((a, b) => a - b);
  };

  /** Run for `steps` steps from a start; the numbers that the page shows, for tests. */
  net.run = function (data, { kind, rule, activation, steps, rate = net.rates[rule], noise = 0, apart = 0 }) {
    const run = { w: net.start(kind, data, apart), rule, rate, noise, activation, draw: net.normals(11), state: null };
    for (let k = 0; k < steps; k++) net.step(run, data);
    return { w: flat(run.w), loss: net.loss(run.w, data, activation).loss, apart: net.apart(run.w) };
  };

  const STARTS = { "cloned: three units, each twice": "cloned", "frozen: two of six units are dead under relu": "frozen", "fresh: six units": "fresh" };

  lop.start("network-explorer", function (host) {
    const data = lop.data.network;
    const state = { start: "cloned", rule: "SGD", activation: "tanh", noise: 0, apart: 0, rate: 1 };
    let run, quotient, twin, seen, timer = null;
    const set = (key) => (value) => { state[key] = key === "start" ? STARTS[value] : value; reset(); };
    const activation = lop.choice("n-activation", ["tanh", "relu"], "tanh");
    const start = lop.choice("n-start", Object.keys(STARTS));
    start.addEventListener("change", () => { if (STARTS[start.value] === "frozen") { activation.value = state.activation = "relu"; } });
    const go = lop.make("button", { type: "button", id: "n-go", class: "go" }, "Train");
    const apart = lop.choice("n-apart", ["0", "1e-12", "1e-8", "1e-4"], "0"), noise = lop.choice("n-noise", ["0", "0.001", "0.01", "0.1"], "0");
    host.append(lop.make("div", { class: "controls" },
      lop.control("start", start, set("start")), lop.control("activation", activation, set("activation")),
      lop.control("update rule", lop.choice("n-rule", Object.keys(net.rules)), set("rule")),
      lop.control("rate, times the usual", lop.range("n-rate", 0.1, 2, 0.1, 1), set("rate")),
      lop.control("noise on every gradient", noise, (v) => set("noise")(Number(v))),
      lop.control("copies start apart by", apart, (v) => set("apart")(Number(v)))));
    const step = lop.make("button", { type: "button", id: "n-step", click: () => { pause(); advance(10); } }, "10 steps");
    const again = lop.make("button", { type: "button", id: "n-reset", click: () => reset() }, "Start again");
    host.append(lop.make("div", { class: "tools" }, go, step, again));
    const picture = lop.make("svg", { class: "net", viewBox: "0 0 360 200", role: "img", "aria-label": "The network: thick lines are large weights, units of one colour are copies, crossed out ones are frozen" });
    const said = lop.make("div", { class: "said", id: "n-said", "aria-live": "off" });
    host.append(lop.make("div", { class: "beside" }, picture, said));
    const left = lop.make("div", {}), right = lop.make("div", {});
    host.append(lop.make("div", { class: "pair" }, left, right));
    const losses = lop.chart(left, { label: "Loss over the steps", x: { label: "step", least: 10, whole: true }, y: { label: "loss", log: true } });
    const distances = lop.chart(right, { label: "Distance of the copies over the steps", x: { label: "step", least: 10, whole: true }, y: { label: "distance of copies", log: true } });

    function fresh(w) { return { w, rule: state.rule, rate: net.rates[state.rule] * state.rate, noise: state.noise, activation: state.activation, draw: net.normals(11), state: null }; }
    function reset() {
      pause();
      run = fresh(net.start(state.start, data, state.apart));
      quotient = state.start === "cloned" ? fresh(structuredClone(data.base)) : null;
      twin = state.start === "fresh" ? null : fresh(net.start("fresh", data));
      seen = { step: 0, x: [], loss: [], quotient: [], twin: [], apart: [], bound: [], lowest: null, begin: flat(run.w), diverged: false };
      go.disabled = step.disabled = false;
      note(); show();
    }
    function note() {
      seen.x.push(seen.step);
      seen.loss.push(net.loss(run.w, data, state.activation).loss);
      if (quotient) seen.quotient.push(net.loss(quotient.w, data, state.activation).loss);
      if (twin) seen.twin.push(net.loss(twin.w, data, state.activation).loss);
      seen.apart.push(net.apart(run.w));
      if (state.start !== "cloned") return;
      // one step of descent multiplies a small distance by 1 - rate * curvature at most, with the lowest curvature across the set
      const steps = seen.x.length > 1 ? seen.step - seen.x[seen.x.length - 2] : 0, before = seen.bound.length ? seen.bound[seen.bound.length - 1] : seen.apart[0];
      seen.bound.push(steps ? before * (1 - run.rate * seen.lowest) ** steps : before);
      seen.lowest = net.eigenvalues(net.normalHessian(run.w, data, state.activation))[0];
    }
    function advance(steps) {
      for (let k = 0; k < steps && !seen.diverged; k++) {
        net.step(run, data);
        if (quotient) net.quotientStep(quotient, data);
        if (twin) net.step(twin, data);
        seen.step++;
        seen.diverged = net.diverged(run.w, data, state.activation);
      }
      if (seen.diverged) { pause(); go.disabled = step.disabled = true; } else note();
      show();
    }
    function pause() { if (timer) cancelAnimationFrame(timer); timer = null; go.textContent = "Train"; }
    function tick() { advance(Math.max(2, Math.ceil(seen.step / 100))); if (seen.step < 5000 && !seen.diverged) timer = requestAnimationFrame(tick); else pause(); }
    go.addEventListener("click", () => { if (timer) pause(); else { go.textContent = "Pause"; timer = requestAnimationFrame(tick); } });

    function show() {
      net.shown = { run, quotient, seen };
      const found = net.certificate(run.w, data, state.activation);
      const lines = [{ name: "this network", x: seen.x, y: seen.loss, colour: 0 }];
      if (quotient) lines.push({ name: "its quotient, one unit a pair, without noise", x: seen.x, y: seen.quotient, colour: 1, dash: "5 4" });
      if (twin) lines.push({ name: "a fresh network of the same size", x: seen.x, y: seen.twin, colour: 2, dash: "2 3" });
      losses(lines);
      right.hidden = state.start !== "cloned";
      if (state.start === "cloned") {
        const shown = [{ name: "distance from the set of clones (0 is not drawn)", x: seen.x, y: seen.apart, colour: 0 }];
        if (state.apart && state.rule === "SGD" && !state.noise) shown.push({ name: "as it would grow along the lowest curvature", x: seen.x, y: seen.bound.map((d) => Math.min(d, 10)), colour: 1, dash: "5 4" });
        distances(shown);
      }
      diagram(found);
      tell(found);
    }
    function tell(found) {
      if (!found) {
        said.replaceChildren(lop.make("p", {}, `Training diverged at step ${seen.step}: weights are beyond a million or no numbers, and have no certificate. Start again or lower the rate.`));
        return;
      }
      const last = (list) => list[list.length - 1], frozen = found.frozen.length, sets = found.copies.length;
      const lines = [`Step ${seen.step}, loss ${lop.say(last(seen.loss))}.`,
        `Certificate: ${frozen} frozen unit${frozen === 1 ? "" : "s"} on these samples, ${sets} set${sets === 1 ? "" : "s"} of exact copies; ${found.dimension} of ${found.parameters} directions are free.`];
      if (state.start === "cloned") {
        lines.push(state.noise ? "Noise is drawn for each weight by itself: it parts copies at once." : state.apart ? "What starts apart by a little is no copy: no rule has to keep it, and the curvature decides." : `In exact arithmetic ${state.rule} keeps exact copies: it treats equal gradients alike. Here equal weights get equal floats, so they stay equal to the bit.`);
        lines.push(`Distance from the set of clones: ${lop.say(last(seen.apart))}.`);
        lines.push(seen.lowest < 0 ? `Lowest curvature across the set: ${lop.say(seen.lowest)}${state.rule === "SGD" && !state.noise ? `; along it a step of descent makes a small distance grow ${lop.say(1 - run.rate * seen.lowest, 6)}-fold` : ""}.` : `No curvature across the set is negative here (lowest ${lop.say(seen.lowest)}).`);
      }
      if (state.start === "frozen") {
        const w = flat(run.w), moved = Math.max(...[3, 4, 5, 12, 13, 14].map((k) => Math.abs(w[k] - seen.begin[k])));
        const still = [1, 4].filter((u) => found.frozen.includes(u)), moves = state.noise ? "noise moves them" : state.rule.includes("decay") ? "decay moves them" : "";
        lines.push(`Weights into units 2 and 5, which start with a bias of −10, have moved by ${lop.say(moved)} at most. ${still.length === 2 ? `No gradient reaches them now${moves ? `; ${moves}` : ""}.` : still.length ? `Unit ${still[0] + 1} is frozen now; gradients reach the other.` : "Neither is frozen on these samples: gradients reach both, however small they are."}`);
      }
      said.replaceChildren(...lines.map((line) => lop.make("p", {}, line)));
    }
    function diagram(found) {
      const parts = [], y = (k, n) => 100 + (k - (n - 1) / 2) * (180 / Math.max(n, 4)), units = run.w.inner.length;
      const thick = (w) => (Number.isFinite(w) ? Math.min(0.4 + 2.2 * Math.abs(w), 7) : 7);
      run.w.inner.forEach((row, u) => row.slice(0, 2).forEach((w, i) => parts.push(lop.make("line", { class: w < 0 ? "weight minus" : "weight", x1: 40, y1: y(i, 2), x2: 180, y2: y(u, units), "stroke-width": thick(w) }))));
      run.w.inner.forEach((_, u) => parts.push(lop.make("line", { class: run.w.outer[u] < 0 ? "weight minus" : "weight", x1: 180, y1: y(u, units), x2: 320, y2: 100, "stroke-width": thick(run.w.outer[u]) })));
      for (const [x, n, name] of [[40, 2, "x"], [320, 1, "y"]]) for (let k = 0; k < n; k++) parts.push(lop.make("circle", { class: "unit", cx: x, cy: y(k, n), r: 11 }), lop.make("text", { class: "unit-name", x, y: y(k, n) + 4 }, n > 1 ? `${name}${k + 1}` : name));
      for (let u = 0; u < units; u++) {
        const set = found ? found.copies.findIndex((s) => s.includes(u)) : -1, dead = Boolean(found) && found.frozen.includes(u);
        parts.push(lop.make("circle", { class: dead ? "unit dead" : set >= 0 ? `unit copy c${set}` : "unit", cx: 180, cy: y(u, units), r: 11 }),
          lop.make("text", { class: "unit-name", x: 180, y: y(u, units) + 4 }, dead ? "×" : set >= 0 ? String.fromCharCode(97 + set) : String(u + 1)));
      }
      picture.replaceChildren(...parts);
    }
    reset();
  });
})();
