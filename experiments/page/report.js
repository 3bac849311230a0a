"use strict";

// Theme ------------------------------------------------------------------------------------------
const root = document.documentElement;
const themes = { "": "as the system", light: "light", dark: "dark" };
const button = document.getElementById("theme");
button.addEventListener("click", () => {
  const names = Object.keys(themes);
  setTheme(names[(names.indexOf(root.dataset.theme || "") + 1) % names.length]);
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);

function setTheme(name) {
  if (name) root.dataset.theme = name;
  else delete root.dataset.theme;
  button.textContent = `Theme: ${themes[name]}`;
  drawAll();
}

// A colour of the style sheet as the browser resolves it in the theme that is on.
function colour(name) {
  const probe = document.createElement("i");
  probe.style.color = `var(--${name})`;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

function coloured(value) {
  if (typeof value === "string") return value.startsWith("var:") ? colour(value.slice(4)) : value;
  if (Array.isArray(value)) return value.map(coloured);
  if (value && typeof value === "object")
    return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, coloured(v)]));
  return value;
}

// Charts -----------------------------------------------------------------------------------------
const narrow = matchMedia("(max-width: 40rem)");
const touch = matchMedia("(pointer: coarse)");

function draw(plot) {
  const source = document.querySelector(`script[data-for="${plot.id}"]`);
  const { data, layout } = coloured(JSON.parse(source.textContent));
  const [ink, soft, line] = ["ink", "soft", "line"].map(colour);
  const common = { gridcolor: line, zeroline: false, linecolor: soft, tickcolor: soft, automargin: true };
  for (const name of ["xaxis", "yaxis"]) layout[name] = { ...common, ...layout[name] };
  if (narrow.matches) {
    for (const trace of data) {
      if (trace.colorbar) Object.assign(trace.colorbar, { orientation: "h", thickness: 8, y: 1.02, yanchor: "bottom" });
      if (trace.mode === "markers+text") trace.textfont = { ...trace.textfont, size: 9 };
    }
  }
  Plotly.react(plot, data, {
    paper_bgcolor: "transparent", plot_bgcolor: "transparent", hovermode: "closest",
    font: { color: ink, family: "system-ui, sans-serif", size: narrow.matches ? 11 : 12 },
    margin: { l: 10, r: 10, t: 30, b: 50 },
    modebar: { bgcolor: "transparent", color: soft, activecolor: ink },
    legend: { orientation: "h", y: -0.2, yanchor: "top" },
    hoverlabel: { align: "left" },
    dragmode: touch.matches ? false : "zoom",
    ...layout,
  }, {
    displaylogo: false, responsive: true, displayModeBar: touch.matches ? false : "hover",
    modeBarButtons: [["zoom2d", "pan2d", "resetScale2d", "toImage"]],
  });
}

function drawAll() {
  if (window.Plotly) document.querySelectorAll(".plot").forEach(draw);
}

async function loadLibrary() {
  const packed = Uint8Array.from(atob(document.getElementById("plotly").textContent), (c) => c.charCodeAt(0));
  const unpacked = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const script = document.createElement("script");
  script.textContent = await new Response(unpacked).text();
  document.head.append(script);
}

// Compute slider -----------------------------------------------------------------------------------
// What the law says of each stop is in the page as experiments.frontier prints it; here only the
// stop is chosen and priced.
function figure(x) {
  return x >= 1e9 || (x > 0 && x < 1e-3) ? x.toExponential(2) : Number(x.toPrecision(3)).toLocaleString("en-US");
}

function setUp(slider) {
  const { stops, chips, stateBytes } = JSON.parse(slider.querySelector("script").textContent);
  const field = (name) => slider.querySelector(`[data-set="${name}"]`);
  const write = (name, text) => { slider.querySelector(`[data-read="${name}"]`).textContent = text; };

  function show() {
    const { C, cells, N } = stops[field("stop").value];
    const chip = chips[field("chip").value];
    const [count, mfu, price] = ["count", "mfu", "price"].map((n) => field(n).valueAsNumber);
    write("C", cells[0]);
    field("stop").setAttribute("aria-valuetext", `${cells[0]} FLOPs`);
    ["N*", "D*", "D/N", "loss"].forEach((name, i) => {
      write(name, cells[1 + 2 * i]);
      write(`${name} interval`, cells[2 + 2 * i]);
    });
    const [held, least, most] = N.map((n) => (n === null ? "not bounded" : figure(Math.ceil(n * stateBytes / chip.hbm_bytes))));
    write("chips to hold it", held);
    write("chips to hold it interval", `${least} to ${most}`);
    // As experiments.plan prices: FLOPs over the share of the peak that is reached.
    const chipHours = (percent) => C / ((percent / 100) * chip.flops) / 3600;
    const span = (f) => [f(mfu), f(mfu + 10), f(Math.max(mfu - 10, 1))].map((x) => (Number.isFinite(x) ? figure(x) : "-"));
    const put = (name, [value, low, high]) => {
      write(name, value);
      write(`${name} interval`, `${low} to ${high}`);
    };
    put("weeks", span((m) => chipHours(m) / count / 168));
    put("dollars", span((m) => chipHours(m) * price));
    write("beyond", cells[9] === "inside"
      ? `${cells[0]} FLOPs: N* ${cells[1]}, D* ${cells[3]}, loss ${cells[7]}. Inside the law's data.`
      : `${cells[0]} FLOPs: N* ${cells[1]}, D* ${cells[3]}, loss ${cells[7]}. ${cells[9]} of compute beyond the law's data: an extrapolation.`);
  }

  function list() {
    const dollars = chips[field("chip").value].dollars_per_hour;
    field("price").value = dollars === null ? "" : dollars;
  }

  // #compute=1e21 goes to the nearest stop, so that a link can name a budget.
  function follow() {
    go(Number(new URLSearchParams(location.hash.slice(1)).get("compute")));
  }

  function go(wanted) {
    if (!(wanted > 0)) return;
    const distance = stops.map((s) => Math.abs(Math.log(s.C / wanted)));
    field("stop").value = distance.indexOf(Math.min(...distance));
    show();
  }

  field("chip").value = "h100";
  list();
  slider.addEventListener("input", (event) => {
    if (event.target === field("chip")) list();
    show();
  });
  slider.querySelectorAll("[data-go]").forEach((b) => b.addEventListener("click", () => go(Number(b.dataset.go))));
  addEventListener("hashchange", follow);
  show();
  follow();
}

document.querySelectorAll(".slider").forEach(setUp);
loadLibrary().then(drawAll).catch((error) => {
  console.error(error);
  for (const plot of document.querySelectorAll(".plot"))
    plot.textContent = "This browser could not draw the chart; its numbers are in the table and the CSV below.";
}).finally(() => { root.dataset.drawn = "yes"; });
narrow.addEventListener("change", drawAll);
