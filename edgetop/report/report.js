"use strict";
// Draws each plot from the JSON beside it, in the colours that the page has now.
(() => {
  const narrow = () => window.innerWidth < 560;
  const config = {
    displaylogo: false,
    responsive: true,
    showLink: false,
    showSendToCloud: false,
    plotlyServerURL: "",
    modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
  };

  function colours() {
    const style = getComputedStyle(document.documentElement);
    const of = (name) => style.getPropertyValue(name).trim();
    return { text: of("--text"), grid: of("--line"), ground: of("--ground") };
  }

  function dressed(layout) {
    const { text, grid, ground } = colours();
    const dress = {
      ...layout,
      font: { family: "system-ui, sans-serif", size: narrow() ? 11 : 12, color: text },
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      hoverlabel: { bgcolor: ground, bordercolor: grid, font: { color: text } },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: grid, activecolor: text },
    };
    for (const name of Object.keys(layout).filter((each) => /^[xy]axis\d*$/.test(each))) {
      dress[name] = { ...layout[name], gridcolor: grid, linecolor: grid, tickcolor: grid };
    }
    return dress;
  }

  const plots = [...document.querySelectorAll("script.plot-data")].map((data) => ({
    place: document.getElementById(data.dataset.for),
    spec: JSON.parse(data.textContent),
  }));

  function draw({ place, spec }) {
    return Plotly.react(place, spec.data, dressed(spec.layout), { ...config, displayModeBar: narrow() ? false : "hover" })
      .then(() => place.classList.add("drawn"));
  }

  // One after the other, so that the page can be read while they are drawn.
  plots.reduce((before, plot) => before.then(() => new Promise(requestAnimationFrame)).then(() => draw(plot)), Promise.resolve())
    .then(() => document.documentElement.classList.add("all-drawn"));

  const redraw = () => plots.forEach(draw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  addEventListener("beforeprint", () => {
    document.documentElement.classList.add("printing");
    redraw();
    plots.forEach(({ place }) => Plotly.relayout(place, { width: 680 }));
  });
  addEventListener("afterprint", () => {
    document.documentElement.classList.remove("printing");
    plots.forEach(({ place }) => Plotly.relayout(place, { width: null, autosize: true }));
    redraw();
  });
})();
