// The keys of a figure.

// Arrow keys move from point to point and from curve to curve, or turn a scene. `announcement` is read by screen readers.
// pointed: is called with the point whose label plotly shows, without one when the label is removed.
function keyboard(plot, announcement, { scene, pointed }) {
  plot.tabIndex = 0;
  plot.setAttribute("role", "application");
  let [curve, point] = [0, -1]; // none yet
  let cell = [0, -1]; // of a heat map: row and column
  const say = () => [70, 300].forEach((delay) => setTimeout(() => { // plotly shows a label at most every 50 ms
    const label = plot.querySelector(".hoverlayer .hovertext");
    const lines = [...(label?.querySelectorAll(".line") ?? [])].map((line) => line.textContent);
    if (label) pointed(plot._hoverdata?.[0]);
    if (label) announcement.textContent = lines.length ? lines.join("; ") : label.textContent;
  }, delay));
  const hoverAt = (x, y) => { // for traces that plotly does not find by number
    Plotly.Fx.hover(plot, { xpx: plot._fullLayout.xaxis.d2p(x), ypx: plot._fullLayout.yaxis.d2p(y) });
    say();
  };
  const lengths = () => // _fullData has the decoded arrays
    plot._fullData.map((trace) => (trace.visible === true && trace.hoverinfo !== "skip" ? trace.x.length : 0));
  plot.addEventListener("keydown", (event) => {
    const [across, along] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key] || [];
    if (event.key === "Escape" && !scene) {
      Plotly.Fx.unhover(plot);
      pointed();
    }
    if (across === undefined || event.target !== plot) return;
    event.preventDefault();
    if (scene) {
      const { x, y, z } = plot.layout.scene.camera.eye;
      const angle = 0.15 * across;
      const eye = {
        x: x * Math.cos(angle) - y * Math.sin(angle), y: x * Math.sin(angle) + y * Math.cos(angle),
        z: Math.min(2.5, Math.max(-0.5, z - 0.15 * along)),
      };
      Plotly.relayout(plot, { "scene.camera.eye": eye });
      return;
    }
    const { z } = plot._fullData[0];
    if (z) { // a heat map
      const [row, column] = [cell[0] + along, cell[1] + across];
      cell = [Math.min(Math.max(row, 0), z.length - 1), Math.min(Math.max(column, 0), z[0].length - 1)];
      hoverAt(cell[1], cell[0]);
      return;
    }
    const sizes = lengths();
    if (!sizes.some(Boolean)) return;
    const first = point < 0;
    const step = along || (sizes[curve] === 1 ? across : 0); // to another curve
    const moved = (count) => (curve + count + sizes.length) % sizes.length;
    curve = moved(first ? 0 : step);
    while (!sizes[curve]) curve = moved(step || 1);
    point = Math.min(Math.max(point + (first ? 1 : across), 0), sizes[curve] - 1);
    const { type, x, y } = plot._fullData[curve];
    if (type === "scattergl") return hoverAt(x[point], y[point]);
    Plotly.Fx.hover(plot, [{ curveNumber: curve, pointNumber: point }]);
    say();
  });
  plot.on("plotly_hover", ({ points }) => {
    if (scene) return;
    if (Array.isArray(points[0].pointNumber)) cell = points[0].pointNumber;
    else [curve, point] = [points[0].curveNumber, points[0].pointNumber ?? points[0].pointIndex ?? 0];
    pointed(points[0]);
    say();
  });
  plot.on("plotly_unhover", () => pointed());
  plot.addEventListener("blur", () => pointed());
}
