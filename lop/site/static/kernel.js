"use strict";
/* The dual kernel of an activation f(z) = φ(a z + b): φ comes as Chebyshev series on pieces, made by Python. */
(function () {
  const kernel = (lop.kernel = {});
  const REACH = 8.2; // mass beyond it is below 3e-16
  const FAR = [REACH, 11, 14]; // an activation that is flat but for a distant kink has its variance out there
  const NODES = 16;

  /* Gauss and Legendre's nodes and weights on [−1, 1], by Newton's method. */
  const [nodes, weights] = (function (n) {
    const x = [], w = [];
    for (let k = 0; k < n; k++) {
      let t = Math.cos((Math.PI * (k + 0.75)) / (n + 0.5)), slope = 1;
      for (let turn = 0; turn < 60; turn++) {
        let before = 1, here = t;
        for (let m = 2; m <= n; m++) [before, here] = [here, ((2 * m - 1) * t * here - (m - 1) * before) / m];
        slope = (n * (t * here - before)) / (t * t - 1);
        const step = here / slope;
        t -= step;
        if (Math.abs(step) < 1e-16) break;
      }
      x.push(t); w.push(2 / ((1 - t * t) * slope * slope));
    }
    return [x, w];
  })(NODES);

  const density = (z) => Math.exp(-z * z / 2) / Math.sqrt(2 * Math.PI);

  /* The value at w of a function given in pieces. */
  function at(ends, series, w) {
    let low = 0, high = series.length - 1;
    while (low < high) { const m = (low + high) >> 1; if (w < ends[m + 1]) high = m; else low = m + 1; }
    const c = series[low], a = ends[low], b = ends[low + 1], t = (2 * Math.min(Math.max(w, ends[0]), ends[ends.length - 1]) - a - b) / (b - a);
    let one = 0, two = 0;
    for (let k = c.length - 1; k > 0; k--) [one, two] = [2 * t * one - two + c[k], one];
    return t * one - two + c[0];
  }

  /** Return f = φ(a z + b) with its slope and the places where it bends, for a chosen activation. */
  kernel.modulated = function (phi, a, b) {
    const bends = phi.ends.slice(1, -1).map((w) => (w - b) / a).filter((z) => Math.abs(z) < FAR[2]).sort((x, y) => x - y);
    const kinks = phi.kinks.map((w) => (w - b) / a).filter((z) => Math.abs(z) < FAR[2]);
    return { value: (z) => at(phi.ends, phi.value, a * z + b), slope: (z) => a * at(phi.ends, phi.slope, a * z + b), bends, kinks };
  };

  /* Ends of panels that hold no bend inside, none wider than `widest`. */
  function panels(bends, widest, low = -REACH, high = REACH) {
    const edges = [low, ...bends.filter((z) => z > low && z < high), high], made = [];
    for (let k = 0; k + 1 < edges.length; k++) {
      const count = Math.max(1, Math.ceil((edges[k + 1] - edges[k]) / widest));
      for (let j = 0; j < count; j++) made.push([edges[k] + ((edges[k + 1] - edges[k]) * j) / count, edges[k] + ((edges[k + 1] - edges[k]) * (j + 1)) / count]);
    }
    return made;
  }

  function integral(g, bends, reach) {
    let sum = 0;
    for (const [l, h] of panels(bends, 1, -reach, reach)) {
      const m = (l + h) / 2, r = (h - l) / 2;
      for (let k = 0; k < NODES; k++) { const z = m + r * nodes[k]; sum += r * weights[k] * g(z) * density(z); }
    }
    return sum;
  }

  /** Return mean, variance, E f'², the linear share and the strength of f, and the reach that holds all but 1e-12 of the variance. */
  kernel.moments = function (f) {
    const over = (g, reach) => integral(g, f.bends, reach), mean = over(f.value, FAR[2]);
    const square = (z) => (f.value(z) - mean) ** 2, variance = over(square, FAR[2]), reach = FAR.find((r) => over(square, r) >= (1 - 1e-12) * variance) || FAR[2];
    const slopeSquare = over((z) => f.slope(z) ** 2, FAR[2]), first = over((z) => (f.value(z) - mean) * z, FAR[2]);
    return { reach, mean, variance, slopeSquare, share: (first * first) / variance, strength: slopeSquare / variance - 1 };
  };

  /** Return K(cos θ) = E g(X) g(Y) of g = (f − mean)/√variance: an inner integral at each node of an outer one. */
  kernel.correlated = function (f, moments, theta) {
    const c = Math.cos(theta), s = Math.sin(theta), scale = moments.variance, reach = moments.reach;
    const g = (z) => f.value(z) - moments.mean;
    if (s < 1e-12) return c > 0 ? 1 : integral((z) => g(z) * g(-z), [...f.bends, ...f.bends.map((z) => -z)].sort((x, y) => x - y), reach) / scale;
    // the inner integral, over y = c x + s w, is a smooth function of x of width s around every kink
    const marks = [...f.bends];
    if (s < 0.5) for (const kink of f.kinks) for (const k of [-6, -4, -2.5, -1.2, 0, 1.2, 2.5, 4, 6]) marks.push((kink + k * s) / c);
    marks.sort((x, y) => x - y);
    let sum = 0;
    for (const [l, h] of panels(marks, 1, -reach, reach)) {
      const m = (l + h) / 2, r = (h - l) / 2;
      for (let k = 0; k < NODES; k++) {
        const x = m + r * nodes[k], inner = f.bends.map((z) => (z - c * x) / s);
        let there = 0;
        for (const [a, b] of panels(inner, 2, -reach, reach)) {
          const mid = (a + b) / 2, half = (b - a) / 2;
          for (let j = 0; j < NODES; j++) { const w = mid + half * nodes[j]; there += half * weights[j] * g(c * x + s * w) * density(w); }
        }
        sum += r * weights[k] * g(x) * there * density(x);
      }
    }
    return sum / scale;
  };

  /** Return ρ ↦ K(ρ): a Chebyshev series in (2/π) arcsin ρ, as `theory.kernels` has it, doubled until it is resolved. */
  kernel.of = function (phi, a, b) {
    const f = kernel.modulated(phi, a, b), moments = kernel.moments(f);
    // the series are good to 1e-10 of the size of φ: less than that of its mean is no variance
    if (!(moments.variance > 1e-18 * moments.mean ** 2)) return { f, moments, at: () => NaN };
    let values = [1], c = [];
    for (const degree of [16, 32, 64]) {
      const before = values, step = degree / (before.length - 1); // the nodes of a degree are those of half of it, and between
      values = Array.from({ length: degree + 1 }, (_, j) => {
        const theta = (Math.PI * (1 - Math.cos((Math.PI * j) / degree))) / 2;
        return j === 0 ? 1 : j % step === 0 ? before[j / step] : kernel.correlated(f, moments, theta);
      });
      c = values.map((_, k) => {
        const sum = values.reduce((s, v, j) => s + (j === 0 || j === degree ? 0.5 : 1) * v * Math.cos((Math.PI * j * k) / degree), 0);
        return (2 / degree) * sum * (k === 0 || k === degree ? 0.5 : 1);
      });
      if (Math.max(...c.slice(-degree / 4).map(Math.abs)) < 1e-8) break;
    }
    const degree = c.length - 1;
    const of = (rho) => {
      const t = (2 / Math.PI) * Math.asin(Math.min(Math.max(rho, -1), 1));
      let one = 0, two = 0;
      for (let k = degree; k > 0; k--) [one, two] = [2 * t * one - two + c[k], one];
      return t * one - two + c[0];
    };
    const zero = of(0), end = of(1);
    return { f, moments, at: (rho) => (rho === 0 ? 0 : rho === 1 ? 1 : (of(rho) - zero) / (end - zero)) };
  };

  /** Return er₂(K(C)) / er₂(C), and the least that an activation with this linear share can have. */
  kernel.gain = function (found, C) {
    let before = 0, after = 0, second = 0, third = 0;
    const share = found.moments.share;
    for (const row of C) for (const r of row) {
      before += r * r; after += found.at(r) ** 2;
      second += (share * r + (1 - share) * r * r) ** 2; third += (share * r + (1 - share) * r ** 3) ** 2;
    }
    return { gain: before / after, bound: before / Math.max(second, third) };
  };

  /** Return P(|f'(Z)| < δ): crossings are bracketed on a fine grid and halved. */
  kernel.frozen = function (f, delta) {
    const small = (z) => Math.abs(f.slope(z)) < delta;
    let mass = 0;
    for (const [l, h] of panels(f.bends, 0.02)) {
      const shift = (h - l) * 1e-9, a = l + shift, b = h - shift, one = small(a), two = small(b);
      if (one && two) mass += normal(h) - normal(l);
      else if (one !== two) {
        let low = a, high = b;
        for (let k = 0; k < 50; k++) { const m = (low + high) / 2; if (small(m) === one) low = m; else high = m; }
        mass += one ? normal(low) - normal(l) : normal(h) - normal(low);
      }
    }
    return Math.min(1, mass + 2 * normal(-REACH));
  };

  /* The standard normal distribution function: a series below 3, a continued fraction beyond. */
  function normal(z) {
    const x = Math.abs(z);
    let tail;
    if (x < 3) {
      let term = x, sum = x;
      for (let k = 1; k < 60; k++) { term *= (x * x) / (2 * k + 1); sum += term; }
      tail = 0.5 - sum * density(x);
    } else {
      let fraction = 0;
      for (let k = 60; k > 0; k--) fraction = k / (x + fraction);
      tail = density(x) / (x + fraction);
    }
    return z < 0 ? tail : 1 - tail;
  }
  kernel.normal = normal;

  kernel.equicorrelated = (n, rho) => Array.from({ length: n }, (_, i) => Array.from({ length: n }, (_, j) => (i === j ? 1 : rho)));

  lop.start("kernel-explorer", function (host) {
    const data = lop.data.activations, EQUAL = "8 features, all correlations equal to ρ";
    const state = { name: "relu", a: 1, b: 0, rho: 0.5, delta: 0.1, matrix: EQUAL };
    const pick = (key) => (value) => { state[key] = value; show(); };
    host.append(lop.make("div", { class: "controls" },
      lop.control("activation φ", lop.choice("k-name", Object.keys(data.activations), "relu"), pick("name")),
      lop.control("gain a", lop.range("k-a", 0.1, 3, 0.1, 1), pick("a")),
      lop.control("shift b", lop.range("k-b", -3, 3, 0.1, 0), pick("b")),
      lop.control("correlation ρ", lop.range("k-rho", -1, 1, 0.01, 0.5), pick("rho")),
      lop.control("slopes below δ count as frozen", lop.range("k-delta", 0.01, 0.5, 0.01, 0.1), pick("delta")),
      lop.control("correlations of features", lop.choice("k-matrix", [EQUAL, ...Object.keys(data.matrices)]), pick("matrix"))));
    const box = lop.make("div", {});
    const numbers = lop.make("dl", { class: "numbers", "aria-live": "polite" });
    const said = lop.make("p", { id: "k-said", "aria-live": "polite" });
    host.append(box, said, numbers);
    const draw = lop.chart(box, { label: "The dual kernel K against the correlation", zoom: true, x: { label: "correlation ρ before φ", low: -1, high: 1 }, y: { label: "K(ρ), after φ", low: -1, high: 1 } });
    let last = "", found = null;
    function show() {
      const key = [state.name, state.a, state.b].join();
      if (key !== last) { found = kernel.of(data.activations[state.name], state.a, state.b); last = key; }
      kernel.shown = found;
      const x = Array.from({ length: 201 }, (_, k) => -1 + k / 100);
      draw([{ name: "no activation: K(ρ) = ρ", x: [-1, 1], y: [-1, 1], colour: 7, dash: "4 3" },
        { name: `K of ${state.name}(${lop.say(state.a)} z + ${lop.say(state.b)})`, x, y: x.map(found.at), colour: 0 }]);
      const notes = [];
      if (state.matrix === EQUAL && state.rho < -1 / 7) notes.push("Correlations of eight features cannot all be below −1/7: the rank gain and its bound are those at −1/7.");
      if (!Number.isFinite(found.at(0.5))) notes.push("This activation is constant here, to the digits of the page: it has no kernel.");
      said.textContent = notes.join(" ");
      const C = state.matrix === EQUAL ? kernel.equicorrelated(8, Math.max(state.rho, -1 / 7)) : data.matrices[state.matrix];
      const { gain, bound } = kernel.gain(found, C), m = found.moments;
      const rows = [["K(ρ)", found.at(state.rho), "k-K"], ["rank gain er₂(K(C)) / er₂(C)", gain, "k-gain"], ["least gain at this linear share", bound, "k-bound"],
        ["frozen share P(|f′| < δ)", kernel.frozen(found.f, state.delta), "k-frozen"], ["linear share c₁²", m.share, "k-share"], ["mean E f", m.mean, "k-mean"], ["variance Var f", m.variance, "k-variance"]];
      numbers.replaceChildren(...rows.flatMap(([what, x, id]) => [lop.make("dt", {}, what), lop.make("dd", { id, "data-value": x }, lop.say(x, 7))]));
    }
    show();
  });
})();
