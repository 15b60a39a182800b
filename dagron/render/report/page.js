"use strict";
// The page works without this: it adds the filter, the moments, the log and the drawer. Texts of a
// run become text nodes, never markup.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const { nodes, entries, moments } = data;
  const CHUNK = 400; // rows of the log that are added at a time
  const ALIKE = 8; // lines of one kind in a row: of more, three are shown, and a button for the rest
  const MEMBERS = 300; // of a folded family that are listed
  const OUTSIDE = "the program, from outside";
  const WORDS = {
    run: "run",
    landed: "graph changed",
    added: "added",
    started: "started",
    retried: "attempt failed",
    completed: "completed",
    failed: "failed",
    skipped: "skipped",
    cancelled: "cancelled",
    removed: "removed",
  };
  const find = (id) => document.getElementById(id);
  const indexOf = new Map();
  nodes.forEach((node, index) => indexOf.set(node.key ?? node.name, index));

  function make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  }

  const digits = (number) => number.toLocaleString("en");

  function seconds(span) {
    if (span >= 100) return `${digits(Math.round(span))} s`;
    if (span >= 1) return `${Number(span.toPrecision(3))} s`;
    return `${span >= 0.001 ? Number((1000 * span).toPrecision(3)) : (1000 * span).toFixed(3)} ms`;
  }

  // Moments of one run are told in one unit, with as many digits as tell them apart.
  const isShort = entries[entries.length - 1][0] < 1;
  const stamp = (time) => (isShort ? `${(1000 * time).toFixed(1)} ms` : `${time.toFixed(3)} s`);

  const word = (node) => node.status.toLowerCase();
  const link = (index) =>
    make("button", { type: "button", class: "name", "data-open": index }, nodes[index].name);

  // -- the elements of the pictures that stand for nodes, or for several of them

  const marks = []; // [element, the indices of its nodes]
  for (const element of document.querySelectorAll(".sheet [data-node]")) {
    const index = indexOf.get(element.dataset.node);
    if (index === undefined) continue;
    element.dataset.index = index;
    marks.push([element, [index]]);
  }
  moments.forEach((moment, number) => {
    const picture = document.querySelectorAll("#graph .picture")[number];
    for (const [id, [count, members]] of Object.entries(moment.folds)) {
      const element = picture.querySelector(`[data-id="${id}"]`);
      element.dataset.fold = count;
      marks.push([element, members]);
    }
  });
  const membersOf = new Map(marks);
  const edges = []; // [element, the mark at its beginning, the mark at its end]
  for (const picture of document.querySelectorAll("#graph .picture")) {
    const ends = new Map([...picture.querySelectorAll("[data-id]")].map((mark) => [mark.dataset.id, mark]));
    for (const element of picture.querySelectorAll("[data-source]")) {
      edges.push([element, ends.get(element.dataset.source), ends.get(element.dataset.target)]);
    }
  }

  // Each picture is one stop of the Tab key; arrows lead from mark to mark.
  for (const svg of document.querySelectorAll(".sheet svg")) {
    svg.setAttribute("role", "group");
    const own = [...svg.querySelectorAll("[data-index], [data-fold]")];
    own.forEach((element, position) => {
      element.setAttribute("tabindex", position ? -1 : 0);
      element.setAttribute("role", "button");
    });
    svg.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      const to = step && own[own.indexOf(event.target) + step];
      if (!to) return;
      event.preventDefault();
      event.target.setAttribute("tabindex", -1);
      to.setAttribute("tabindex", 0);
      to.focus();
    });
  }

  // -- the drawer

  const drawer = find("drawer");
  let opener = null;
  let opened = [];

  function mark(members) {
    for (const element of document.querySelectorAll(".open")) element.classList.remove("open");
    opened = members;
    if (members.length !== 1) return;
    const alike = `.sheet [data-index="${members[0]}"], #entries [data-index="${members[0]}"]`;
    for (const element of document.querySelectorAll(alike)) element.classList.add("open");
  }

  function show(title, children, members, from) {
    if (drawer.hidden) opener = from;
    find("drawer-title").replaceChildren(title);
    find("drawer-body").replaceChildren(...children);
    drawer.hidden = false;
    drawer.scrollTop = 0;
    mark(members);
    find("drawer-title").focus();
  }

  function close() {
    drawer.hidden = true;
    mark([]);
    opener?.focus({ preventScroll: true });
  }

  function open(index, from) {
    const node = nodes[index];
    const children = [make("p", { class: `fate state ${word(node)}` }, fate(node)), facts(node)];
    for (const error of node.errors ?? []) children.push(...told(error.title, error.text, "failed"));
    if (node.errors_more) children.push(make("p", { class: "note" }, `${node.errors_more} more attempts failed.`));
    if (node.result !== undefined) children.push(...told("Result", node.result, "result"));
    children.push(...neighbours("Depends on", node.needs, node.needs_more, node.ifs));
    children.push(...neighbours("Needed by", node.feeds, node.feeds_more));
    children.push(...neighbours("Has added", node.children, node.children_more));
    show(node.name, children, [index], from);
  }

  function fate(node) {
    if (!node.reason) return word(node);
    return node.reason.startsWith(word(node)) ? node.reason : `${word(node)}: ${node.reason}`;
  }

  function facts(node) {
    const list = make("dl");
    const tell = (term, ...values) => list.append(make("dt", {}, term), make("dd", {}, ...values));
    if (node.start !== undefined) tell("started", `${stamp(node.start)} after the run began`);
    if (node.took !== undefined) tell("took", `${seconds(node.took)} in its task`);
    if (node.attempts > 1) tell("attempts", String(node.attempts));
    if (node.by !== undefined) {
      const by = node.by_index === undefined ? node.by : link(node.by_index);
      tell("added by", by ?? OUTSIDE, node.landed ? `, modification ${node.landed}` : "");
    }
    if (node.status === "REMOVED") {
      tell("removed by", node.removed_by ?? OUTSIDE, `, modification ${node.removed_in}`);
    }
    return list;
  }

  const told = (title, text, look) => [make("h3", {}, title), make("pre", { class: look }, text)];

  function neighbours(title, indices = [], more = 0, ifs = []) {
    if (!indices.length && !more) return [];
    const list = make("ul");
    for (const index of indices) {
      const of = word(nodes[index]);
      const item = make("li", {}, make("span", { class: `state ${of}`, title: of }), link(index));
      if (ifs.includes(index)) item.append(" on a condition");
      list.append(item);
    }
    if (more) list.append(make("li", { class: "note" }, `and ${digits(more)} more`));
    return [make("h3", {}, title), list];
  }

  function openMembers(element, members) {
    const title = element.querySelector("title").textContent.split("\n")[0];
    const hasFailed = (index) => nodes[index].status === "FAILED";
    const shown = [...members].sort((one, other) => hasFailed(other) - hasFailed(one)).slice(0, MEMBERS);
    show(title, neighbours("Nodes", shown, element.dataset.fold - shown.length), members, element);
    element.classList.add("open");
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-open]");
    const element = event.target.closest("[data-index], [data-fold]");
    if (button) open(Number(button.dataset.open), button);
    else if (element && String(getSelection()) === "") press(element);
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !drawer.hidden) close();
    else if ((event.key === "Enter" || event.key === " ") && membersOf.has(event.target)) {
      event.preventDefault();
      press(event.target);
    }
  });
  find("close").addEventListener("click", close);

  function press(element) {
    if (element.dataset.index !== undefined) open(Number(element.dataset.index), element);
    else openMembers(element, membersOf.get(element));
  }

  // -- one filter for all

  const states = new Set();
  const family = find("family");
  let hits = nodes.map(() => true);

  function options() {
    const counts = new Map();
    for (const node of nodes) counts.set(familyOf(node), (counts.get(familyOf(node)) ?? 0) + 1);
    family.append(make("option", { value: "" }, "Added by anyone"));
    for (const [key, count] of counts) {
      const label = { 0: "In the graph from the start", 1: "Added from outside" }[key];
      family.append(make("option", { value: key }, `${label ?? `Added by ${key.slice(1)}`} (${digits(count)})`));
    }
    family.hidden = counts.size < 2;
    const tally = new Map();
    for (const node of nodes) tally.set(node.status, (tally.get(node.status) ?? 0) + 1);
    for (const [status, count] of tally) {
      const of = status.toLowerCase();
      const button = make("button", { type: "button", "aria-pressed": "false", "data-state": status });
      button.append(make("span", { class: `state ${of}` }), `${digits(count)} ${of}`);
      button.addEventListener("click", () => {
        if (!states.delete(status)) states.add(status);
        button.setAttribute("aria-pressed", states.has(status));
        filter();
      });
      find("states").append(button);
    }
  }

  const familyOf = (node) => (node.by === undefined ? "0" : node.by === null ? "1" : `2${node.by}`);

  function filter() {
    const text = find("text").value.trim().toLowerCase();
    const isOn = text !== "" || states.size > 0 || family.value !== "";
    hits = nodes.map((node) =>
      (text === "" || node.name.toLowerCase().includes(text)) &&
      (states.size === 0 || states.has(node.status)) &&
      (family.value === "" || familyOf(node) === family.value));
    for (const [element, members] of marks) {
      element.classList.toggle("out", isOn && !members.some((index) => hits[index]));
    }
    for (const [element, ...ends] of edges) {
      element.classList.toggle("faint", ends.every((mark) => mark.classList.contains("out")));
    }
    document.body.classList.toggle("filtered", isOn);
    if (isOn) document.querySelectorAll(".sheet").forEach(reveal);
    find("clear").disabled = !isOn;
    const count = hits.filter(Boolean).length;
    find("found").value = isOn ? `${digits(count)} of ${digits(nodes.length)} nodes` : "";
    const chosen = isOn ? entries.filter(([, , index]) => index !== null && hits[index]) : entries;
    find("shown").value = isOn ? `${digits(chosen.length)} of ${digits(entries.length)}` : "";
    lines = gathered(chosen);
    shown = 0;
    find("entries").replaceChildren();
    grow();
  }

  // Scroll a sheet, and nothing else, to the first element that the filter lets through.
  function reveal(sheet) {
    const own = [...sheet.querySelectorAll(".picture:not([hidden]) [data-index], .picture:not([hidden]) [data-fold]")];
    const first = own.find((element) => !element.classList.contains("out"));
    if (!first) return;
    const [box, view] = [first.getBoundingClientRect(), sheet.getBoundingClientRect()];
    if (box.top < view.top || box.bottom > view.bottom) sheet.scrollTop += box.top - view.top - 40;
    if (box.left < view.left || box.right > view.right) sheet.scrollLeft += box.left - view.left - 40;
  }

  find("text").addEventListener("input", filter);
  family.addEventListener("change", filter);
  find("clear").addEventListener("click", () => {
    find("text").value = family.value = "";
    states.clear();
    for (const button of find("states").children) button.setAttribute("aria-pressed", "false");
    filter();
    find("text").focus();
  });

  // -- the log

  let lines = []; // entries, and lists of entries that a button stands for
  let shown = 0;

  function gathered(chosen) {
    const result = [];
    for (let start = 0, end; start < chosen.length; start = end) {
      const kind = chosen[start][1];
      end = start + 1;
      while (end < chosen.length && chosen[end][1] === kind) end += 1;
      const isLong = end - start > ALIKE && ["added", "removed", "skipped", "cancelled"].includes(kind);
      result.push(...chosen.slice(start, isLong ? start + 3 : end));
      if (isLong) result.push({ kind, others: chosen.slice(start + 3, end) });
    }
    return result;
  }

  function buttonRow({ kind, others }) {
    const button = make("button", { type: "button" }, `Show ${digits(others.length)} more`);
    const what = make("span", { class: `state ${kind}` }, WORDS[kind]);
    const element = make("tr", { class: kind }, make("td"), make("td", {}, what), make("td", {}, button), make("td"));
    button.addEventListener("click", () => element.replaceWith(...others.map(row)));
    return element;
  }

  function row([time, kind, index, text]) {
    const element = make("tr", index === null ? { class: "run" } : { class: kind, "data-index": index });
    element.append(
      time === null ? make("td", { title: "It is not known when." }, "\u2013") : make("td", {}, stamp(time)),
      make("td", {}, make("span", { class: `state ${kind}` }, WORDS[kind])),
      make("td", {}, ...(index === null ? [] : [link(index)])),
      make("td", {}, text ?? ""));
    element.classList.toggle("open", opened.length === 1 && index === opened[0]);
    return element;
  }

  function grow() {
    const next = lines.slice(shown, shown + CHUNK);
    find("entries").append(...next.map((line) => (Array.isArray(line) ? row(line) : buttonRow(line))));
    shown = Math.min(shown + CHUNK, lines.length);
    const left = lines.length - shown;
    find("more").hidden = !left;
    find("more").textContent = `Show ${digits(Math.min(left, CHUNK))} more of ${digits(left)}`;
  }
  find("more").addEventListener("click", grow);

  // -- moments, and the size of the graph

  const pictures = [...document.querySelectorAll("#graph .picture")];
  const moment = find("moment");
  let scale = null; // null: as the sheet is wide

  function turn(number) {
    moment.value = number;
    pictures.forEach((picture, position) => { picture.hidden = position !== number; });
    find("before").setAttribute("aria-pressed", number === 0);
    find("after").setAttribute("aria-pressed", number === pictures.length - 1);
    find("when").value = moments[number].label;
    moment.setAttribute("aria-valuetext", moments[number].label);
    resize();
  }

  function fitting(svg) {
    const room = find("graph").querySelector(".sheet").clientWidth;
    return Math.min(1, Math.max(0.6, room / svg.getAttribute("width")));
  }

  function resize() {
    const svg = pictures[Number(moment.value)].querySelector("svg");
    const to = scale ?? fitting(svg);
    svg.style.width = `${to * svg.getAttribute("width")}px`;
    svg.style.height = "auto";
    return to;
  }

  find("before").addEventListener("click", () => turn(0));
  find("after").addEventListener("click", () => turn(pictures.length - 1));
  moment.addEventListener("input", () => turn(Number(moment.value)));
  addEventListener("resize", resize);
  for (const button of document.querySelectorAll("[data-zoom]")) {
    button.addEventListener("click", () => {
      const factor = { "-": 0.8, "+": 1.25 }[button.dataset.zoom];
      scale = factor ? Math.min(3, Math.max(0.1, resize() * factor)) : null;
      resize();
    });
  }

  moment.max = pictures.length - 1;
  moment.hidden = pictures.length < 3;
  document.querySelector(".moments").hidden = pictures.length < 2;
  for (const element of document.querySelectorAll(".filter, .zoom, #log")) element.hidden = false;
  options();
  turn(pictures.length - 1);
  filter();
  for (const time of document.querySelectorAll("time")) {
    const style = { dateStyle: "medium", timeStyle: "medium" };
    time.textContent = new Date(time.dateTime).toLocaleString(undefined, style);
  }
})();
