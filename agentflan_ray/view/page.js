"use strict";
(() => {
  const CAPABILITIES = ["reasoning", "retrieval", "understanding", "instruction", "general"];
  const FACETS = [
    ["status", "Status"],
    ["source", "Source"],
    ["case", "Case"],
    ["form", "Form"],
    ["capability", "Capability"],
    ["reason", "Reason"],
  ];
  const SPEAKERS = ["user", "assistant", "tool"];
  const LONG = 600; // characters of a turn that is not learnt before it is folded
  const GAP = 8; // pixels between turns, as in the style
  const records = JSON.parse(document.getElementById("index").textContent);
  const $ = (id) => document.getElementById(id);

  // A record is its entries: a sample each, a sample that was not made, or the record itself where it gave none.
  for (const record of records) {
    record.entries = record.samples.map(([kind, form, case_, mask], index) => ({
      index, form, case: case_, reason: "", capabilities: CAPABILITIES.filter((_, bit) => mask & (1 << bit)),
    }));
    for (const [case_, reason] of record.not_made) {
      record.entries.push({ index: -1, form: "", case: case_, reason, capabilities: [] });
    }
    if (!record.samples.length) {
      record.entries.push({ index: -1, form: "", case: "", reason: record.reason, capabilities: [] });
    }
  }

  const state = { chosen: {}, query: "", key: "", record: null, kind: "", view: "parts" };
  for (const [facet] of FACETS) state.chosen[facet] = new Set();
  let shown = [];
  let hasTokens = false;

  // ---- data ---------------------------------------------------------------------------------------------------

  const parsed = new Map();
  function load(record) {
    if (!parsed.has(record.number)) {
      if (parsed.size > 50) parsed.clear();
      parsed.set(record.number, JSON.parse($(`card-${record.number}`).textContent));
    }
    return parsed.get(record.number);
  }

  function wordsOf(record) {
    if (record.words === undefined) {
      const card = JSON.parse($(`card-${record.number}`).textContent);
      const texts = [record.key, card.id, card.where, card.sentence, card.raw];
      for (const tool of card.tools) texts.push(tool);
      for (const message of card.messages) for (const piece of message.pieces) texts.push(piece[1]);
      for (const sample of card.samples) {
        for (const turn of sample.turns) texts.push(turn[1].map((part) => part[0]).join(""));
      }
      record.words = texts.join("\n").toLowerCase();
    }
    return record.words;
  }

  // ---- filters ------------------------------------------------------------------------------------------------

  const has = (facet, value, except) =>
    facet === except || state.chosen[facet].size === 0 || state.chosen[facet].has(value);

  function entryPasses(entry, except) {
    const reasons = state.chosen.reason;
    if (except === "reason" || reasons.size) {
      if (except !== "reason" && !reasons.has(entry.reason)) return false;
    } else if (entry.index < 0 && entry.case) {
      return false; // what was not made is not shown under its case unless its reason is asked for
    }
    const capable =
      except === "capability" ||
      state.chosen.capability.size === 0 ||
      entry.capabilities.some((name) => state.chosen.capability.has(name));
    return capable && has("form", entry.form, except) && has("case", entry.case, except);
  }

  function passes(record, except) {
    return (
      has("status", record.status, except) &&
      has("source", record.source, except) &&
      (!state.query || wordsOf(record).includes(state.query)) &&
      record.entries.some((entry) => entryPasses(entry, except))
    );
  }

  function valuesOf(record, facet) {
    if (facet === "status" || facet === "source") return [record[facet]];
    const passing = record.entries.filter((entry) => entryPasses(entry, facet));
    return passing.flatMap((entry) => (facet === "capability" ? entry.capabilities : [entry[facet]]));
  }

  const inputs = new Map();
  function makeFacets() {
    for (const [facet, title] of FACETS) {
      const values = new Map();
      for (const record of records) {
        const all = facet === "status" || facet === "source"
          ? [record[facet]]
          : record.entries.flatMap((entry) => (facet === "capability" ? entry.capabilities : [entry[facet]]));
        for (const value of new Set(all)) if (value) values.set(value, (values.get(value) || 0) + 1);
      }
      if (values.size === 0) continue;
      const set = make("fieldset", "", make("legend", "", title));
      set.dataset.facet = facet;
      const order = [...values].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1));
      for (const [value] of order) {
        const input = make("input");
        input.type = "checkbox";
        input.addEventListener("change", () => {
          if (input.checked) state.chosen[facet].add(value);
          else state.chosen[facet].delete(value);
          refresh();
        });
        const count = make("b");
        const name = make("span", facet === "capability" ? "cap-name" : "", value);
        const label = make("label", "", input, name, count);
        label.dataset.value = value;
        set.append(label);
        inputs.set(`${facet}\n${value}`, { facet, value, input, count, label });
      }
      $("facets").append(set);
    }
    const clear = make("button", "", "Clear filters");
    clear.id = "clear";
    clear.type = "button";
    clear.addEventListener("click", () => {
      for (const [facet] of FACETS) state.chosen[facet].clear();
      state.query = $("search").value = "";
      refresh();
    });
    $("facets").before(clear);
  }

  function countFacets() {
    const counts = new Map();
    for (const [facet] of FACETS) {
      for (const record of records) {
        if (!passes(record, facet)) continue;
        for (const value of new Set(valuesOf(record, facet))) {
          const name = `${facet}\n${value}`;
          counts.set(name, (counts.get(name) || 0) + 1);
        }
      }
    }
    for (const [name, { facet, value, input, count, label }] of inputs) {
      const number = counts.get(name) || 0;
      count.textContent = number.toLocaleString("en");
      input.checked = state.chosen[facet].has(value);
      label.className = number || input.checked ? "" : "none";
    }
    const active = FACETS.reduce((sum, [facet]) => sum + state.chosen[facet].size, 0);
    $("active").textContent = active ? `(${active} on)` : "";
    $("clear").hidden = !active && !state.query;
  }

  // ---- list ---------------------------------------------------------------------------------------------------

  function refresh() {
    shown = records.filter((record) => passes(record, null));
    countFacets();
    $("count").textContent = `${shown.length.toLocaleString("en")} of ${records.length.toLocaleString("en")} records`;
    $("list").replaceChildren(...shown.map(listItem));
    const wanted = shown.includes(state.record) ? state.record : shown.find((record) => record.key === state.key);
    if (state.key && !state.record && !records.some((record) => record.key === state.key)) {
      $("detail").replaceChildren(make("p", "empty", `The record ${state.key} is not on this page.`));
    } else {
      open(wanted || shown[0], false);
    }
  }

  function listItem(record) {
    const line = make("small", "", make("span", "", record.source));
    if (record.status === "kept") line.append(make("span", "", record.key));
    else line.append(make("span", "badge", `${record.status}: ${record.reason}`));
    const item = make("li", "", make("p", "", record.title || record.key), line);
    item.dataset.number = record.number;
    record.item = item;
    return item;
  }

  function open(record, byHand) {
    for (const item of $("list").querySelectorAll("[aria-current]")) item.removeAttribute("aria-current");
    if (!record) {
      state.record = null;
      state.key = "";
      $("detail").replaceChildren(make("p", "empty", "No record matches these filters."));
      writeHash();
      return;
    }
    if (record !== state.record) {
      if (state.record) state.kind = "";
      state.record = record;
      state.key = record.key;
      $("detail").scrollTop = 0;
    }
    record.item.setAttribute("aria-current", "true");
    record.item.scrollIntoView({ block: "nearest" });
    show(record);
    if (byHand && matchMedia("(max-width: 640px)").matches) $("detail").scrollIntoView();
    writeHash();
  }

  function step(by) {
    const next = shown[shown.indexOf(state.record) + by];
    if (next) open(next, true);
  }

  // ---- one record ---------------------------------------------------------------------------------------------

  function show(record) {
    const card = load(record);
    const index = shown.indexOf(record);
    const link = make("a", "", record.key);
    link.href = `#${new URLSearchParams({ id: record.key })}`;
    link.title = "Link to this record";
    const steps = make("div", "steps");
    for (const [sign, name, by] of [["‹", "Previous record", -1], ["›", "Next record", 1]]) {
      const button = make("button", "", sign);
      button.type = "button";
      button.setAttribute("aria-label", name);
      button.addEventListener("click", () => step(by));
      steps.append(button, by < 0 ? ` ${index + 1} of ${shown.length} ` : "");
    }
    const facts = make("div", "facts", make("span", record.status === "kept" ? "" : "badge", record.status));
    const about = [`source ${record.source}`];
    if (card.origin !== record.source) about.push(`read as ${card.origin}`);
    if (card.where !== record.key) about.push(card.where);
    if (card.id && card.id !== record.key) about.push(`id ${card.id}`);
    for (const [name, value] of card.meta) about.push(`${name}: ${value}`);
    for (const text of about) facts.append(make("span", "", text));
    const body = [make("div", "top", make("h2", "", link), steps), facts];
    if (record.status !== "kept") {
      body.push(make("p", "why", make("span", "badge", record.reason), ` ${card.sentence}`));
    }
    const pair = make("div", "pair");
    const left = card.messages.length ? trajectoryPanel(card) : rawPanel(card);
    pair.append(left);
    if (record.samples.length || record.not_made.length) pair.append(samplePanel(record, card));
    else pair.classList.add("single");
    body.push(pair);
    $("detail").replaceChildren(...body);
    linkPieces(pair);
    alignTurns();
    if (state.query) markHits($("detail"));
  }

  function rawPanel(card) {
    const panel = make("section", "", make("div", "bar", make("h3", "", "As it was read (its beginning)")));
    panel.append(make("div", "raw text", card.raw || "Nothing of it could be read."));
    return panel;
  }

  function trajectoryPanel(card) {
    const jump = make("button", "jump", "Samples ↓");
    jump.type = "button";
    jump.addEventListener("click", () => $("detail").querySelector(".sample")?.scrollIntoView());
    const panel = make("section", "trajectory", make("div", "bar", make("h3", "", "Trajectory"), jump));
    panel.setAttribute("aria-label", "Trajectory");
    panel.append(make("p", "note", `${card.messages.length} messages`));
    if (card.tools.length) {
      const name = card.tools.length === 1 ? "1 tool" : `${card.tools.length} tools`;
      panel.append(turnBox(name, make("div", "text", make("span", "untaught", card.tools.join("\n"))), [], false));
    }
    for (const message of card.messages) {
      const text = make("div", "text");
      message.pieces.forEach(([kind, content, capability], index) => {
        if (kind === "tool") text.append(index ? "\n→ " : "→ ");
        else if (kind === "arguments") text.append(" ");
        else if (index) text.append("\n");
        const piece = tagged(content, capability);
        if (kind === "tool") piece.classList.add("tool-name");
        if (kind === "arguments") piece.classList.add("arguments");
        text.append(piece);
      });
      const tags = message.pieces.map((piece) => piece[2]);
      panel.append(turnBox(message.role, text, tags, message.learnt));
    }
    return panel;
  }

  function samplePanel(record, card) {
    const panel = make("section", "sample");
    panel.setAttribute("aria-label", "Samples");
    const bar = make("div", "bar", make("h3", "", record.samples.length === 1 ? "Sample" : "Samples"));
    bar.setAttribute("role", "tablist");
    let chosen = record.samples.findIndex(([kind]) => kind === state.kind);
    if (chosen < 0) {
      const passing = record.entries.find((entry) => entry.index >= 0 && entryPasses(entry, null));
      chosen = passing ? passing.index : record.samples.length ? 0 : -1;
    }
    record.samples.forEach(([kind], index) => {
      const tab = make("button", "", kind);
      tab.type = "button";
      tab.setAttribute("role", "tab");
      tab.setAttribute("aria-selected", String(index === chosen));
      tab.addEventListener("click", () => chooseSample(record, index));
      bar.append(tab);
    });
    panel.append(bar);
    for (const reason of new Set(record.not_made.map((each) => each[1]))) {
      const kinds = record.not_made.filter((each) => each[1] === reason).map((each) => each[0]);
      panel.append(make("p", "note", `Not made: ${kinds.join(", ")} (${reason})`));
    }
    if (chosen < 0) return panel;
    const sample = card.samples[chosen];
    const asTokens = state.view === "tokens" && sample.tokens;
    const note = make("p", "note shares", make("span", "", `form ${sample.form}, case ${sample.case}`));
    note.append(...shares(sample));
    panel.append(note);
    if (asTokens) panel.append(tokensBox(sample.tokens));
    else {
      for (const [role, parts] of sample.turns) {
        const text = make("div", "text", ...parts.map(([content, capability]) => tagged(content, capability)));
        const tags = parts.map((part) => part[1]);
        panel.append(turnBox(role, text, tags, tags.some((tag) => tag)));
      }
    }
    return panel;
  }

  function chooseSample(record, index) {
    state.kind = record.samples[index][0];
    show(record);
    writeHash();
  }

  function shares(sample) {
    const learnt = new Map();
    let total = 0;
    const add = (capability, size) => {
      total += size;
      if (capability) learnt.set(capability, (learnt.get(capability) || 0) + size);
    };
    const tokens = sample.tokens && !sample.tokens.fault ? sample.tokens : null;
    if (tokens) for (const [tag, , size] of tokens.runs) add(CAPABILITIES[tag], size);
    else for (const [, parts] of sample.turns) for (const [text, capability] of parts) add(capability, text.length);
    const unit = tokens ? "tokens" : "characters";
    const sum = [...learnt.values()].reduce((a, b) => a + b, 0);
    const percent = total ? Math.round((100 * sum) / total) : 0;
    const spans = [
      make("span", "", `${sum.toLocaleString("en")} of ${total.toLocaleString("en")} ${unit} learnt (${percent}%)`),
    ];
    for (const name of CAPABILITIES) {
      if (!learnt.has(name)) continue;
      spans.push(make("span", "", make("span", `cap ${name}`, name), ` ${learnt.get(name).toLocaleString("en")}`));
    }
    return spans;
  }

  function turnBox(role, text, tags, learnt) {
    const title = make("h4", "", make("span", "", role));
    const names = CAPABILITIES.filter((name) => tags.includes(name));
    if (names.length) title.append(make("i", "", names.join(", ")));
    else if (role === "assistant" && !learnt) title.append(make("i", "", "not learnt"));
    const box = make("div", `turn ${SPEAKERS.includes(role) ? role : "context"}`);
    box.append(title, text);
    if (!names.length && text.textContent.length > LONG && !state.query) {
      text.classList.add("clipped");
      const more = make("button", "more", `Show all ${text.textContent.length.toLocaleString("en")} characters`);
      more.type = "button";
      more.addEventListener("click", () => {
        text.classList.remove("clipped");
        more.remove();
        alignTurns();
      });
      box.append(more);
    }
    return box;
  }

  function tagged(content, capability) {
    if (!capability) return make("span", "untaught", content);
    const piece = make("span", `cap ${capability}`, make("span", "sr", `${capability}: `), content);
    piece.dataset.capability = capability;
    piece.title = capability;
    return piece;
  }

  function tokensBox(tokens) {
    if (tokens.fault) return make("p", "why", tokens.fault);
    const text = make("div", "text");
    let begin = 0;
    let piece = 0;
    for (const [tag, numPieces] of tokens.runs) {
      const capability = CAPABILITIES[tag];
      const run = make("span", capability ? `cap ${capability}` : "untaught");
      if (capability) {
        run.title = capability;
        run.dataset.capability = capability;
        run.append(make("span", "sr", `${capability}: `));
      }
      for (let end = piece + numPieces; piece < end; piece++) {
        const content = tokens.text.slice(begin, begin + tokens.lengths[piece]);
        begin += tokens.lengths[piece];
        const token = make("i");
        content.split("\n").forEach((line, index) => {
          if (index) token.append(make("s"), "\n");
          token.append(line);
        });
        run.append(token);
      }
      text.append(run);
    }
    const box = make("div", "tokens", text);
    if (tokens.left_out) {
      box.append(make("p", "note", `${tokens.left_out.toLocaleString("en")} more tokens are not shown.`));
    }
    return box;
  }

  // The n-th words, tool name or arguments of the trajectory and of a sample belong together where both hold as many.
  // Words are reasoning in one form and general in another, so they are counted as one.
  function linkPieces(pair) {
    const sides = ["trajectory", "sample"].map((side) => [...pair.querySelectorAll(`.${side} [data-capability]`)]);
    for (const names of [["reasoning", "general"], ["retrieval"], ["understanding"]]) {
      const [first, second] = sides.map((side) => side.filter((piece) => names.includes(piece.dataset.capability)));
      if (first.length === 0 || first.length !== second.length) continue;
      first.forEach((piece, index) => {
        piece.dataset.link = second[index].dataset.link = `${names[0]}-${index}`;
      });
    }
  }

  // Side by side, what belongs together starts at one height: the incoming turn, then the assistant's.
  function alignTurns() {
    const turns = [...$("detail").querySelectorAll(".turn")];
    for (const turn of turns) turn.style.marginTop = "";
    const [left, right] = ["trajectory", "sample"].map((side) => $("detail").querySelector(`.${side}`));
    if (!left || !right || state.view === "tokens" || right.offsetLeft === left.offsetLeft) return;
    const level = (first, second) => {
      const lower = first.offsetTop - second.offsetTop;
      if (lower) (lower > 0 ? second : first).style.marginTop = `${Math.abs(lower) + GAP}px`;
    };
    for (const turn of left.querySelectorAll(".turn.assistant")) {
      const piece = turn.querySelector("[data-link]");
      if (!piece) continue;
      const other = right.querySelector(`[data-link="${piece.dataset.link}"]`).closest(".turn");
      level(incoming(turn), incoming(other));
      level(turn, other);
    }
  }

  function incoming(turn) {
    let first = turn;
    while (first.previousElementSibling?.matches(".turn.user, .turn.tool")) first = first.previousElementSibling;
    return first;
  }

  function highlight(target) {
    for (const piece of document.querySelectorAll(".linked")) piece.classList.remove("linked");
    const piece = target.closest?.(".cap[data-capability]");
    const capability = piece?.dataset.capability;
    for (const name of $("legend").children) name.classList.toggle("lit", name.dataset.name === capability);
    if (!piece?.dataset.link) return [];
    const linked = [...$("detail").querySelectorAll(`[data-link="${piece.dataset.link}"]`)];
    for (const each of linked) each.classList.add("linked");
    return linked.filter((each) => each !== piece);
  }

  function markHits(root) {
    const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
    const nodes = [];
    while (walker.nextNode()) nodes.push(walker.currentNode);
    let first = null;
    for (const node of nodes) {
      let from = node;
      let at = from.data.toLowerCase().indexOf(state.query);
      while (at >= 0 && from.parentNode.className !== "sr") {
        const hit = from.splitText(at);
        const rest = hit.splitText(state.query.length);
        const mark = make("mark", "hit");
        hit.replaceWith(mark);
        mark.append(hit);
        first ||= mark;
        from = rest;
        at = from.data.toLowerCase().indexOf(state.query);
      }
    }
    first?.scrollIntoView({ block: "center" });
  }

  // ---- address, keys, start -----------------------------------------------------------------------------------

  function writeHash() {
    const parameters = new URLSearchParams();
    for (const [facet] of FACETS) for (const value of state.chosen[facet]) parameters.append(facet, value);
    if (state.query) parameters.set("q", state.query);
    if (state.view === "tokens") parameters.set("view", "tokens");
    if (state.key) parameters.set("id", state.key);
    if (state.kind) parameters.set("sample", state.kind);
    history.replaceState(null, "", `#${parameters}`);
  }

  function readHash() {
    const parameters = new URLSearchParams(location.hash.slice(1));
    for (const [facet] of FACETS) state.chosen[facet] = new Set(parameters.getAll(facet));
    state.query = (parameters.get("q") || "").toLowerCase();
    state.key = parameters.get("id") || "";
    if (state.record?.key !== state.key) state.record = null;
    state.kind = parameters.get("sample") || "";
    $("search").value = state.query;
    setView(parameters.get("view") === "tokens" && hasTokens ? "tokens" : "parts");
  }

  function setView(view) {
    state.view = view;
    for (const button of $("views").children) button.setAttribute("aria-pressed", String(button.dataset.view === view));
  }

  function toggleView(view) {
    if (!hasTokens) return;
    setView(view);
    if (state.record) show(state.record);
    writeHash();
  }

  function stepSample(by) {
    const record = state.record;
    if (!record?.samples.length) return;
    const tabs = [...$("detail").querySelectorAll('[role="tab"]')];
    const at = tabs.findIndex((tab) => tab.getAttribute("aria-selected") === "true");
    chooseSample(record, (at + by + tabs.length) % tabs.length);
  }

  function make(tag, className, ...children) {
    const node = document.createElement(tag);
    if (className) node.className = className;
    node.append(...children);
    return node;
  }

  const KEYS = {
    j: () => step(1),
    k: () => step(-1),
    "]": () => stepSample(1),
    "[": () => stepSample(-1),
    t: () => toggleView(state.view === "tokens" ? "parts" : "tokens"),
    "/": () => $("search").focus(),
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.id === "search") {
      if (event.key === "Escape" || event.key === "Enter") event.target.blur();
      return;
    }
    const action = KEYS[event.key];
    if (!action) return;
    event.preventDefault();
    action();
  });
  let typing = 0;
  $("search").addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(() => {
      state.query = $("search").value.trim().toLowerCase();
      refresh();
    }, 150);
  });
  $("list").addEventListener("click", (event) => {
    const item = event.target.closest("li");
    if (item) open(records[item.dataset.number], true);
  });
  $("views").addEventListener("click", (event) => {
    if (event.target.dataset.view) toggleView(event.target.dataset.view);
  });
  $("detail").addEventListener("mouseover", (event) => highlight(event.target));
  $("detail").addEventListener("click", (event) => {
    if (String(getSelection())) return; // someone marks text to copy it
    highlight(event.target)[0]?.scrollIntoView({ block: "center" });
  });
  addEventListener("resize", alignTurns);
  addEventListener("hashchange", () => {
    readHash();
    refresh();
  });

  for (const name of CAPABILITIES) {
    const entry = make("span", `cap ${name}`, name);
    entry.dataset.name = name;
    $("legend").append(entry);
  }
  $("legend").append(make("span", "untaught", "not learnt"));
  hasTokens = records.some((record) => record.tokens);
  $("views").hidden = $("token-key").hidden = !hasTokens;
  makeFacets();
  $("facets").open = matchMedia("(min-width: 1181px)").matches;
  readHash();
  refresh();
})();
