"use strict";
/* A certificate as a page: what `certificate.to_dict()` holds, set as text and never as markup. Nothing is sent anywhere. */
globalThis.lopCertificate = (function () {
  const NAMES = { clones: "copies stay copies", coset: "weights stay on this manifold", frozen: "frozen weights stay" };
  const ANSWERS = { kept: "yes", left: "no", unknown: "unknown" };
  const SHOWN = 200;

  function make(name, attributes, ...children) {
    const node = document.createElement(name);
    for (const [key, value] of Object.entries(attributes || {})) node.setAttribute(key, value);
    node.append(...children.map((child) => (child instanceof Node ? child : String(child ?? "–"))));
    return node;
  }

  const many = (n, one, more) => `${Number(n).toLocaleString("en")} ${n === 1 ? one : more}`;
  const size = (x) => (typeof x === "number" ? x.toExponential(1) : x);

  function table(title, heads, rows) {
    const shown = rows.slice(0, SHOWN);
    if (rows.length > SHOWN) shown.push([`… and ${rows.length - SHOWN} more`, ...heads.slice(1).map(() => "")]);
    const head = make("tr", {}, ...heads.map((h) => make("th", { scope: "col" }, h)));
    const body = shown.map((row) => make("tr", {}, ...row.map((cell, k) => (k ? make("td", {}, cell) : make("th", { scope: "row" }, cell)))));
    return make("section", {}, make("h3", {}, title),
      make("div", { class: "cert-wide", tabindex: "0", role: "region", "aria-label": title }, make("table", {}, make("thead", {}, head), make("tbody", {}, ...body))));
  }

  /* What is drawn of a certificate: lists of a shape, `any` name to a shape, or keys; what is missing or null is not drawn. */
  const REASON = { about: "plain", sentence: "plain", where: ["plain"], rests_on: ["plain"] };
  const SHAPE = {
    model: "plain", copies: { any: { units: "plain", different: "plain", kind: "plain", copies: [["plain"]] } },
    frozen: { layers: { any: { units: "plain", sign: "plain", interval: "plain", observed: "plain" } } },
    unreached: [{ parameter: "plain", entries: "plain", size: "plain", why: "plain" }],
    near: [{ layer: "plain", units: ["plain"], activations: "plain", weights: "plain" }],
    optimizer: { optimizer: "plain", clones: "plain", coset: "plain", frozen: "plain", reasons: [REASON] },
    said: { headline: "plain", stability: "plain", minibatches: "plain", rounding: "plain" }, notes: ["plain"],
  };

  /* What is wrong with the shape of a value; an entry of a list or of names may not be null. */
  function misfit(value, shape, name, needed) {
    if (value === undefined || (value === null && !needed)) return "";
    if (shape === "plain") return value === null || typeof value === "object" ? `"${name}" has to be a text or a number` : "";
    if (Array.isArray(shape)) {
      if (!Array.isArray(value)) return `"${name}" has to be a list`;
      for (let k = 0; k < value.length; k++) { const found = misfit(value[k], shape[0], `${name}[${k}]`, true); if (found) return found; }
      return "";
    }
    if (value === null || typeof value !== "object" || Array.isArray(value)) return `"${name}" has to be an object`;
    for (const key of shape.any ? Object.keys(value) : Object.keys(shape)) {
      const found = misfit(value[key], shape.any || shape[key], `${name}.${key}`, Boolean(shape.any));
      if (found) return found;
    }
    return "";
  }

  /** What is wrong with a value that should be a certificate; empty if nothing is. */
  function fault(data) {
    if (data === null || typeof data !== "object" || Array.isArray(data)) return "this is no object of JSON";
    for (const key of ["model", "parameters", "dimension", "copies"]) if (!(key in data)) return `it has no "${key}"; write it with: lop certify … --json`;
    if (!Number.isInteger(data.parameters) || data.parameters < 1) return '"parameters" has to be a whole number above 0';
    if (!Number.isInteger(data.dimension) || data.dimension < 0 || data.dimension > data.parameters) return '"dimension" has to be a whole number from 0 to the number of parameters';
    for (const key of ["model", "copies"]) if (data[key] === null) return `"${key}" is null`;
    for (const [key, shape] of Object.entries(SHAPE)) { const found = misfit(data[key], shape, key, false); if (found) return found; }
    return "";
  }

  function headline(data) {
    const held = data.parameters - data.dimension, share = (100 * data.dimension) / Math.max(data.parameters, 1);
    if (data.said && data.said.headline) return data.said.headline;
    return held ? `gradients cannot reach ${many(held, "direction", "directions")} of ${data.parameters}` : `nothing traps this network (${share.toFixed(2)}% free)`;
  }

  function sets(found) {
    const sizes = (found.copies || []).map((set) => set.length);
    if (!sizes.length) return "–";
    const low = sizes.reduce((a, b) => Math.min(a, b)), high = sizes.reduce((a, b) => Math.max(a, b)); // arguments of a call are few
    return `${many(sizes.length, "set", "sets")} of ${low < high ? `${low} to ${high}` : low}, ${found.kind}`;
  }

  function bar(data) {
    const share = Math.min(Math.max(data.dimension / Math.max(data.parameters, 1), 0), 1);
    const said = `${many(data.dimension, "direction", "directions")} of ${many(data.parameters, "parameter", "parameters")} are held by nothing`;
    const full = make("div", { class: "cert-full" });
    full.style.width = `${(100 * share).toFixed(1)}%`;
    return make("div", {}, make("div", { class: "cert-bar", role: "img", "aria-label": said }, full), make("p", { class: "cert-small" }, said));
  }

  function why(reason) {
    const where = reason.where || [], more = where.length > 1 ? ` and ${where.length - 1} more` : "";
    return `${where.length ? `${where[0]}${more}: ` : ""}${reason.sentence}${(reason.rests_on || []).length ? ` [${reason.rests_on.join(", ")}]` : ""}`;
  }

  /** Write a certificate below `host`. */
  function render(host, data) {
    const wrong = fault(data);
    if (wrong) throw new Error(wrong);
    const trapped = data.dimension < data.parameters, parts = [];
    parts.push(make("h2", {}, `Certificate of ${data.model}`), make("p", { class: trapped ? "cert-head cert-held" : "cert-head cert-free" }, headline(data)), bar(data));
    const copies = Object.entries(data.copies);
    if (copies.length) parts.push(table("Exact copies", ["units of", "units", "different", "copies"], copies.map(([name, f]) => [name, f.units, f.different, sets(f)])));
    const frozen = data.frozen && Object.entries(data.frozen.layers || {});
    if (frozen && frozen.length) parts.push(table("Frozen units, by the inputs on which they are frozen", ["activation", "units", "for all data", "in the box", "on the batch"],
      frozen.map(([layer, n]) => [layer, n.units, n.sign, data.boxed === false ? "no box" : n.interval, n.observed])));
    if ((data.unreached || []).length) parts.push(table("No gradient, and no certificate why", ["parameter", "entries", "likeliest reason"], data.unreached.map((u) => [u.parameter, `${u.entries} of ${u.size}`, u.why])));
    if ((data.near || []).length) parts.push(table("Near-clones", ["units of", "near-clones", "outputs off by", "weights off by"], data.near.map((n) => [n.layer, n.units.join(", "), size(n.activations), size(n.weights)])));
    if (data.optimizer && trapped) {
      const rows = [];
      for (const about of ["clones", "coset", "frozen"]) {
        const reasons = (data.optimizer.reasons || []).filter((r) => r.about === about && (r.rests_on || []).length);
        reasons.forEach((r, k) => rows.push([k ? "" : NAMES[about], k ? "" : ANSWERS[data.optimizer[about]] || data.optimizer[about], why(r)]));
      }
      if (rows.length) parts.push(table(`In exact arithmetic, under ${data.optimizer.optimizer}`, ["does it hold?", "answer", "why"], rows));
    }
    const said = data.said || {};
    for (const [key, name] of [["stability", "Stability"], ["minibatches", "Small batches"], ["rounding", "On this machine"]]) if (said[key]) parts.push(make("p", {}, make("b", {}, `${name}: `), said[key]));
    if (data.audit) parts.push(make("details", {}, make("summary", {}, "Audit"), make("pre", {}, JSON.stringify(data.audit, null, 1))));
    if ((data.notes || []).length) parts.push(make("details", {}, make("summary", {}, many(data.notes.length, "note", "notes")), make("ul", {}, ...data.notes.slice(0, SHOWN).map((n) => make("li", {}, n)), ...(data.notes.length > SHOWN ? [make("li", {}, `… and ${data.notes.length - SHOWN} more`)] : []))));
    host.replaceChildren(make("article", { class: "certificate" }, ...parts));
  }

  /** Write the certificate of a text of JSON below `host`; a line on what is wrong with it where it is none. */
  function read(host, text) {
    try {
      if (!text.trim()) throw new Error("it is empty");
      render(host, JSON.parse(text));
      return true;
    } catch (error) {
      const said = error instanceof SyntaxError ? "this is no JSON" : error instanceof RangeError ? "it is nested too deeply" : error.message;
      host.replaceChildren(make("p", { class: "cert-wrong", role: "alert" }, `This is no certificate: ${said}.`));
      return false;
    }
  }

  /** Let people drop a file, choose one or paste a text, all below `host`. */
  function viewer(host) {
    const out = make("div", { class: "cert-out", "aria-live": "polite" });
    const file = make("input", { type: "file", id: "cert-file", accept: ".json,application/json" });
    const text = make("textarea", { id: "cert-text", rows: "4", spellcheck: "false" });
    const show = make("button", { type: "button", id: "cert-show" }, "Show");
    const drop = make("div", { class: "cert-drop" },
      make("p", {}, make("label", { for: "cert-file" }, "Drop the file that lop certify --json has written here, or choose it: "), file),
      make("p", {}, make("label", { for: "cert-text" }, "Or paste its text: "), text, show));
    const take = async (given) => { if (given) read(out, await given.text()); };
    file.addEventListener("change", () => take(file.files[0]));
    show.addEventListener("click", () => read(out, text.value));
    for (const name of ["dragenter", "dragover"]) drop.addEventListener(name, (event) => { event.preventDefault(); drop.classList.add("cert-over"); });
    drop.addEventListener("dragleave", () => drop.classList.remove("cert-over"));
    drop.addEventListener("drop", (event) => { event.preventDefault(); drop.classList.remove("cert-over"); take(event.dataTransfer.files[0]); });
    host.replaceChildren(drop, out);
    host.dataset.ready = "yes";
  }

  const begin = () => {
    const given = document.getElementById("certificate-data"), host = document.getElementById("certificate"), place = document.getElementById("certificate-viewer");
    if (given && host) read(host, given.textContent);
    if (place) viewer(place);
  };
  if (typeof document !== "undefined") { if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", begin); else begin(); }
  return { render, read, fault, viewer };
})();
