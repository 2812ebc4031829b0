// The dashboard's only own script: charts, live updates, copy buttons, the trial table. It fetches from this server only.
"use strict";
(() => {
  const REFRESH_MS = 500; // at most two refreshes a second, however many events arrive
  const STEADY_MS = 5000; // clocks and time left move on without events
  const RETRY_MS = 3000;
  const PATIENCE_MS = 1500; // a stream that is back this soon was not lost
  const EVENTS = ["study.state", "stage", "unit.started", "unit.done", "unit.requeued", "progress", "trial.done", "recommendation"];
  const page = document.getElementById("study");
  const linkState = document.getElementById("link-state");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const logAxes = new Map(); // chart id -> Set of "x", "y"
  let figures = {};

  // ---- small things -------------------------------------------------------------------------------------------------
  function localTimes(root) {
    for (const node of root.querySelectorAll("time[datetime]")) {
      const at = new Date(node.dateTime);
      if (!Number.isNaN(at.getTime())) {
        node.title = node.title || node.textContent;
        node.textContent = at.toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
      }
    }
  }

  async function copy(button) {
    const source = document.getElementById(button.dataset.copy);
    const text = source.innerText;
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      // Without a secure context there is no clipboard: select the text, so that one key press copies it.
      getSelection().selectAllChildren(source);
      button.textContent = "Selected";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 1600);
  }

  // ---- charts -------------------------------------------------------------------------------------------------------
  function themed(figure, id) {
    const css = getComputedStyle(document.documentElement);
    const of = (name) => css.getPropertyValue(name).trim();
    const ink = of("--ink"), muted = of("--muted"), line = of("--line"), card = of("--card");
    const out = structuredClone(figure);
    for (const trace of out.data) {
      for (const part of [trace.line, trace.error_x]) if (part && part.color === "ink") part.color = ink;
      if (trace.marker) trace.marker.line = { width: trace.marker.size > 8 ? 1 : 0, color: card };
    }
    const log = logAxes.get(id) || new Set();
    for (const name of ["x", "y"]) {
      const axis = (out.layout[name + "axis"] ||= {});
      Object.assign(axis, { gridcolor: line, zerolinecolor: line, linecolor: line, tickfont: { color: muted } });
      if (axis.type !== "category") axis.type = log.has(name) ? "log" : "linear";
      if (axis.type === "log") axis.dtick = undefined;
      if (axis.title) axis.title.font = { color: muted, size: 12 };
    }
    const font = getComputedStyle(document.body).fontFamily;
    Object.assign(out.layout, {
      font: { family: font, size: 12, color: ink },
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      hoverlabel: { bgcolor: card, bordercolor: line, font: { color: ink, family: font, size: 12 } },
    });
    // A changed axis kind needs fresh ranges; otherwise a person's zoom is kept.
    out.layout.uirevision = `${out.layout.uirevision}:${[...log].sort().join()}:${document.getElementById(id).dataset.figure}`;
    return out;
  }

  function draw(node) {
    const figure = figures[node.dataset.figure];
    if (!window.Plotly || !figure || !figure.data.some((trace) => trace.x.length)) return;
    if (node.closest("[hidden]")) return;
    node.querySelector(".waiting")?.remove();
    const { data, layout } = themed(figure, node.id);
    Plotly.react(node, data, layout, { displayModeBar: false, responsive: true, doubleClick: "reset" });
  }

  const drawAll = () => document.querySelectorAll(".chart").forEach(draw);

  function press(button, selector) {
    for (const other of document.querySelectorAll(selector)) other.setAttribute("aria-pressed", String(other === button));
  }

  function chartButton(button) {
    const node = document.getElementById(button.dataset.for);
    if (button.dataset.figure) {
      node.dataset.figure = button.dataset.figure;
      press(button, `[data-figure][data-for="${node.id}"]`);
    } else {
      const on = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", String(on));
      const set = logAxes.get(node.id) || new Set();
      set[on ? "add" : "delete"](button.dataset.log);
      logAxes.set(node.id, set);
    }
    draw(node);
  }

  // ---- fragments ----------------------------------------------------------------------------------------------------
  const shown = new Map(); // fragment name -> the HTML last put in

  function put(name, html) {
    const node = document.querySelector(`[data-fragment="${name}"]`);
    if (!node || shown.get(name) === html) return;
    // Do not take a menu away that a person has open, nor a text that they are selecting.
    if (node.contains(document.activeElement) && document.activeElement.tagName === "SELECT") return;
    if (!getSelection().isCollapsed && node.contains(getSelection().anchorNode)) return;
    const focused = node.contains(document.activeElement) ? focusPath(document.activeElement) : null;
    const scrolled = [...node.querySelectorAll(".scroll")].map((box) => box.scrollLeft);
    shown.set(name, html);
    node.innerHTML = html; // rendered by the server with escaping on
    node.querySelectorAll(".scroll").forEach((box, i) => { box.scrollLeft = scrolled[i] || 0; });
    if (focused) node.querySelector(focused)?.focus({ preventScroll: true });
    localTimes(node);
  }

  function focusPath(node) {
    if (node.dataset.copy) return `[data-copy="${node.dataset.copy}"]`;
    if (node.getAttribute("href")) return `a[href="${CSS.escape(node.getAttribute("href"))}"]`;
    return node.id ? `#${CSS.escape(node.id)}` : ".scroll";
  }

  // ---- live ---------------------------------------------------------------------------------------------------------
  let last = 0, timer = 0, busy = false, again = false, ended = false, source = null, worry = 0;

  function say(text, kind) {
    if (linkState.textContent !== text) linkState.textContent = text;
    linkState.className = `link-state ${kind}`;
  }

  function lost() {
    worry ||= setTimeout(() => { worry = 0; if (!ended) say("Connection lost, trying again …", "lost"); }, PATIENCE_MS);
  }

  function found() {
    clearTimeout(worry);
    worry = 0;
  }

  function schedule() {
    if (busy) { again = true; return; }
    if (timer) return;
    timer = setTimeout(refresh, Math.max(0, last + REFRESH_MS - performance.now()));
  }

  async function refresh() {
    timer = 0;
    busy = true;
    last = performance.now();
    try {
      const answer = await fetch(page.dataset.live + location.search, { headers: { Accept: "application/json" } });
      if (answer.status === 401) { location.reload(); return; } // the way to the sign-in page
      if (answer.status === 404) { ended = true; say("This study was deleted.", "lost"); source?.close(); return; }
      if (!answer.ok) throw new Error(String(answer.status));
      apply(await answer.json());
    } catch {
      if (!ended) { lost(); setTimeout(schedule, RETRY_MS); }
    } finally {
      busy = false;
      if (again) { again = false; schedule(); }
    }
  }

  function apply(body) {
    for (const [name, html] of Object.entries(body.fragments)) put(name, html);
    figures = body.figures;
    if (figures.confirmation) document.querySelectorAll(".when-answered").forEach((box) => { box.hidden = false; });
    drawAll();
    ended = body.ended;
    if (ended) { source?.close(); found(); say("", ""); }
    else if (source && source.readyState === EventSource.OPEN) say("live", "live");
    document.documentElement.dataset.refreshed = String(Number(document.documentElement.dataset.refreshed || 0) + 1);
  }

  function listen() {
    source = new EventSource(page.dataset.events);
    source.onopen = () => { found(); say("live", "live"); schedule(); };
    for (const type of EVENTS) source.addEventListener(type, schedule);
    source.onerror = () => {
      if (ended) { source.close(); return; }
      lost();
      // The browser reconnects by itself after a broken stream, but not after a refused one.
      if (source.readyState === EventSource.CLOSED) setTimeout(() => { if (!ended) listen(); }, RETRY_MS);
    };
  }

  async function showTrials(search) {
    history.replaceState(null, "", search || location.pathname);
    const answer = await fetch(`${location.pathname}/table${search}`);
    if (answer.ok) { document.activeElement?.blur(); put("trials", await answer.text()); }
  }

  // ---- the catalogue ------------------------------------------------------------------------------------------------
  function find(form) {
    const words = form.q.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    const tiles = document.querySelectorAll("[data-text]");
    for (const tile of tiles) {
      tile.hidden = (form.competing.checked && tile.dataset.competes !== "true")
        || !words.every((word) => tile.dataset.text.includes(word));
      shown += !tile.hidden;
    }
    for (const group of document.querySelectorAll(".group")) {
      group.hidden = !group.querySelector(".tile:not([hidden])");
      document.querySelector(`.jump a[href="#${group.id}"]`).hidden = group.hidden;
    }
    document.getElementById("none-found").hidden = shown > 0;
    form.querySelector("output").textContent = `${shown} of ${tiles.length}`;
    const query = new URLSearchParams([...new FormData(form)].filter(([, value]) => value)).toString();
    history.replaceState(null, "", location.pathname + (query && "?" + query) + location.hash);
  }

  // ---- start --------------------------------------------------------------------------------------------------------
  document.addEventListener("click", (event) => {
    const target = event.target instanceof Element ? event.target : null;
    const button = target?.closest("button");
    if (button?.dataset.copy) copy(button);
    else if (button?.dataset.for) chartButton(button);
    const link = target?.closest("a[data-trials]");
    if (link && !event.ctrlKey && !event.metaKey && !event.shiftKey) {
      event.preventDefault();
      showTrials(link.getAttribute("href"));
    }
  });
  document.addEventListener("change", (event) => {
    const form = event.target.closest("form[data-trials-form]");
    if (form) showTrials("?" + new URLSearchParams([...new FormData(form)].filter(([, value]) => value)));
  });
  dark.addEventListener("change", drawAll);
  localTimes(document);

  if (page) {
    schedule();
    if (page.dataset.ended !== "true") {
      listen();
      setInterval(() => { if (!ended && !document.hidden) schedule(); }, STEADY_MS);
    }
  }
  const form = document.querySelector("form[data-find]");
  if (form) {
    form.addEventListener("input", () => find(form));
    form.addEventListener("submit", (event) => event.preventDefault());
    // Going back brings the words back, but not what they hid.
    addEventListener("pageshow", () => find(form));
  }
  const list = document.querySelector('[data-poll="list"]');
  if (list) {
    setInterval(async () => {
      if (document.hidden || list.contains(document.activeElement)) return;
      const query = new URLSearchParams(location.search);
      query.set("part", "list");
      try {
        const answer = await fetch(`/?${query}`);
        if (answer.status === 401) location.reload();
        if (answer.ok) { list.innerHTML = await answer.text(); localTimes(list); }
      } catch { /* the next round asks again */ }
    }, STEADY_MS);
  }
})();
