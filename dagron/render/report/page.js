"use strict";
// The page works without this: it adds the filter, the moments, the log and the drawer. Texts of a
// run become text nodes, never markup.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const { nodes, entries, moments } = data;
  const CHUNK = 400; // rows of the log that are added at a time
  const ALIKE = 8; // lines of one kind in a row: of more, the first three are shown, and a button for the others
  const WORDS = {
    run: "run", landed: "graph changed", added: "added", started: "started", retried: "attempt failed",
    completed: "completed", failed: "failed", skipped: "skipped", cancelled: "cancelled", removed: "removed",
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

  function seconds(span) {
    if (span >= 100) return `${Math.round(span).toLocaleString("en")} s`;
    if (span >= 1) return `${Number(span.toPrecision(3))} s`;
    return `${span >= 0.001 ? Number((1000 * span).toPrecision(3)) : (1000 * span).toFixed(3)} ms`;
  }

  // Moments of one run are told in one unit, with as many digits as tell them apart.
  const isShort = entries[entries.length - 1][0] < 1;
  const stamp = (time) => (isShort ? `${(1000 * time).toFixed(1)} ms` : `${time.toFixed(3)} s`);

  const word = (node) => node.status.toLowerCase();
  const link = (index) => make("button", { type: "button", class: "name", "data-open": index }, nodes[index].name);

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
    if (members.length === 1) {
      for (const [element, of] of marks) if (of.length === 1 && of[0] === members[0]) element.classList.add("open");
      for (const row of find("entries").rows) row.classList.toggle("open", row.dataset.index === String(members[0]));
    }
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
    const fate = node.reason?.startsWith(word(node)) ? node.reason : [word(node), node.reason].filter(Boolean).join(": ");
    const children = [make("p", { class: `fate state ${word(node)}` }, fate)];
    children.push(facts(node));
    for (const error of node.errors ?? []) children.push(...told(error));
    if (node.errors_more) children.push(make("p", { class: "note" }, `${node.errors_more} more attempts failed, of those between.`));
    if (node.result !== undefined) children.push(make("h3", {}, "Result"), make("pre", { class: "result" }, node.result));
    children.push(...neighbours("Depends on", node.needs, node.needs_more, node.ifs));
    children.push(...neighbours("Needed by", node.feeds, node.feeds_more));
    children.push(...neighbours("Has added", node.children, node.children_more));
    show(node.name, children, [index], from);
  }

  function facts(node) {
    const list = make("dl");
    const tell = (term, ...values) => list.append(make("dt", {}, term), make("dd", {}, ...values));
    if (node.start !== undefined) tell("started", `${stamp(node.start)} after the run began`);
    if (node.took !== undefined) tell("took", `${seconds(node.took)} in its task`);
    if (node.attempts > 1) tell("attempts", String(node.attempts));
    if (node.by !== undefined) {
      const by = node.by === null ? "from outside of the run" : node.by_index === undefined ? node.by : link(node.by_index);
      tell("added by", by, node.landed ? `, modification ${node.landed}` : "");
    }
    if (node.status === "REMOVED") tell("removed by", node.removed_by ?? "the program", `, modification ${node.removed_in}`);
    return list;
  }

  function told(error) {
    return [make("h3", {}, error.title), make("pre", { class: "failed" }, error.text)];
  }

  function neighbours(title, indices = [], more = 0, ifs = []) {
    if (!indices.length && !more) return [];
    const list = make("ul");
    for (const index of indices) {
      const item = make("li", {}, make("span", { class: `state ${word(nodes[index])}`, title: word(nodes[index]) }), link(index));
      if (ifs.includes(index)) item.append(" on a condition");
      list.append(item);
    }
    if (more) list.append(make("li", { class: "note" }, `and ${more.toLocaleString("en")} more`));
    return [make("h3", {}, title), list];
  }

  function openMembers(element, members) {
    const title = element.querySelector("title").textContent.split("\n")[0];
    const known = [...members].sort((one, other) => (nodes[other].status === "FAILED") - (nodes[one].status === "FAILED"));
    show(title, neighbours("Nodes", known.slice(0, 300), element.dataset.fold - Math.min(known.length, 300)), members, element);
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
      const label = key === "0" ? "In the graph from the start" : key === "1" ? "Added from outside" : `Added by ${key.slice(1)}`;
      family.append(make("option", { value: key }, `${label} (${count.toLocaleString("en")})`));
    }
    family.hidden = counts.size < 2;
    const tally = new Map();
    for (const node of nodes) tally.set(node.status, (tally.get(node.status) ?? 0) + 1);
    for (const [status, count] of tally) {
      const button = make("button", { type: "button", "aria-pressed": "false", "data-state": status });
      button.append(make("span", { class: `state ${status.toLowerCase()}` }), `${count.toLocaleString("en")} ${status.toLowerCase()}`);
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
    for (const [element, members] of marks) element.classList.toggle("out", isOn && !members.some((index) => hits[index]));
    document.body.classList.toggle("filtered", isOn);
    if (isOn) document.querySelectorAll(".sheet").forEach(reveal);
    find("clear").disabled = !isOn;
    const count = hits.filter(Boolean).length;
    find("found").value = isOn ? `${count.toLocaleString("en")} of ${nodes.length.toLocaleString("en")} nodes` : "";
    const chosen = isOn ? entries.filter(([, , index]) => index !== null && hits[index]) : entries;
    find("shown").value = isOn ? `${chosen.length.toLocaleString("en")} of ${entries.length.toLocaleString("en")}` : "";
    lines = gathered(chosen);
    shown = 0;
    find("entries").replaceChildren();
    grow();
  }

  // Scroll a sheet, and nothing else, to the first element that the filter lets through.
  function reveal(sheet) {
    const first = marks.find(([element]) => !element.classList.contains("out") && sheet.contains(element) && element.getClientRects().length);
    if (!first) return;
    const [box, view] = [first[0].getBoundingClientRect(), sheet.getBoundingClientRect()];
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
      const isLong = end - start > ALIKE && (kind === "added" || kind === "removed" || kind === "skipped" || kind === "cancelled");
      result.push(...chosen.slice(start, isLong ? start + 3 : end));
      if (isLong) result.push({ kind, others: chosen.slice(start + 3, end) });
    }
    return result;
  }

  function buttonRow({ kind, others }) {
    const button = make("button", { type: "button" }, `Show ${others.length.toLocaleString("en")} more`);
    const element = make("tr", { class: kind });
    element.append(make("td"), make("td", {}, make("span", { class: `state ${kind}` }, WORDS[kind])), make("td", {}, button), make("td"));
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
    find("entries").append(...lines.slice(shown, shown + CHUNK).map((line) => (Array.isArray(line) ? row(line) : buttonRow(line))));
    shown = Math.min(shown + CHUNK, lines.length);
    const left = lines.length - shown;
    find("more").hidden = !left;
    find("more").textContent = `Show ${Math.min(left, CHUNK).toLocaleString("en")} more of ${left.toLocaleString("en")}`;
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
    time.textContent = new Date(time.dateTime).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" });
  }
})();
