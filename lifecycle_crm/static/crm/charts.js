// Draws <figure class="chart" data-chart="sankey|line|bar"> from the JSON inside it. The sentence, the ranked list and
// the table in the figure say the same without it. All texts come formatted from the server.
(() => {
  "use strict";
  const source = document.currentScript?.dataset.echarts;
  const drawn = new Map();
  let loading = null;

  const load = () => {
    loading ??= new Promise((ready, fail) => {
      if (window.echarts) return ready(window.echarts);
      const tag = document.createElement("script");
      tag.src = source;
      tag.addEventListener("load", () => ready(window.echarts));
      tag.addEventListener("error", () => {
        loading = null;
        fail(new Error("The chart library did not load."));
      });
      document.head.append(tag);
    });
    return loading;
  };

  const token = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  const STAGES = ["reach", "acquire", "nurture", "retain", "advocate", "dormant"];
  const colour = (item, index = 0) => {
    if (STAGES.includes(item?.stage)) return token(`stage-${item.stage}`);
    return item?.stage ? token("control") : token(`chart-${(index % 3) + 1}`);
  };
  const text = (size = 13) => ({ color: token("ink-2"), fontFamily: token("sans"), fontSize: size });
  const still = () => matchMedia("(prefers-reduced-motion: reduce)").matches;
  const plain = (value) => String(value).replace(/[{}|]/g, " "); // these three steer rich text in ECharts

  const tooltip = (extra) => ({
    renderMode: "richText", // the HTML kind writes style attributes, which the content policy refuses
    confine: true,
    backgroundColor: token("surface"),
    borderColor: token("control"),
    borderWidth: 1,
    padding: [8, 12],
    textStyle: { ...text(), color: token("ink") },
    ...extra,
  });

  const base = (data) => ({
    animation: !still(),
    animationDuration: 180,
    textStyle: text(),
    aria: { enabled: true, label: { description: data.summary || "" } },
  });

  const sankey = (data) => {
    const last = Math.max(...data.nodes.map((node) => node.column ?? 0));
    const names = Object.fromEntries(data.nodes.map((node) => [node.id, node]));
    return {
      ...base(data),
      tooltip: tooltip({ trigger: "item", formatter: (hit) => plain(hit.data.label ?? names[hit.name]?.label ?? "") }),
      series: [
        {
          type: "sankey",
          left: 130,
          right: 130,
          top: 8,
          bottom: 8,
          nodeWidth: 14,
          nodeGap: 14,
          draggable: false,
          layoutIterations: 0, // keeps the order of the stages
          emphasis: { focus: "adjacency" },
          lineStyle: { color: "source", opacity: 0.32, curveness: 0.5 },
          data: data.nodes.map((node) => ({
            name: node.id,
            depth: node.column ?? 0,
            label: {
              ...text(),
              color: token("ink"),
              position: (node.column ?? 0) === last ? "right" : "left",
              // Between the ends a name lies on ribbons: a rim in the colour of the ground keeps it legible.
              textBorderColor: token("surface"),
              textBorderWidth: 4,
              formatter: () => plain(node.label),
            },
            itemStyle: { color: colour(node), borderWidth: 0 },
            url: node.url,
          })),
          links: data.links.map((link) => ({ ...link, lineStyle: { color: colour(names[link.source]) } })),
        },
      ],
    };
  };

  const axes = (data) => {
    const ticks = data.y?.ticks;
    const words = new Map((ticks ?? []).map((tick) => [tick.value, tick.text]));
    const value = {
      type: "value",
      name: data.y?.title || "",
      nameTextStyle: { ...text(12), align: "left", padding: [0, 0, 4, 0] },
      nameLocation: "end",
      nameGap: 12,
      min: ticks ? ticks[0].value : undefined,
      max: ticks ? ticks[ticks.length - 1].value : undefined,
      axisLabel: {
        ...text(12),
        ...(ticks ? { customValues: ticks.map((tick) => tick.value), formatter: (at) => words.get(at) ?? "" } : {}),
      },
      splitLine: { lineStyle: { color: token("border") } },
    };
    if (ticks) value.axisTick = { show: false, customValues: ticks.map((tick) => tick.value) };
    const category = {
      type: "category",
      data: data.x.labels,
      boundaryGap: data.kind === "bar",
      axisLine: { lineStyle: { color: token("control") } },
      axisTick: { show: false },
      axisLabel: { ...text(12), hideOverlap: true, margin: 12 },
    };
    return { value, category };
  };

  const rows = (data) => (hits) => {
    const at = hits[0]?.dataIndex ?? 0;
    const lines = data.series
      .filter((row) => row.values[at] !== null && row.values[at] !== undefined)
      .map((row) => `${plain(row.name)}: ${plain(row.texts?.[at] ?? row.values[at])}`);
    const running = data.running && at === data.x.labels.length - 1 ? ` (${data.running})` : "";
    return [`${plain(data.x.labels[at])}${running}`, ...lines].join("\n");
  };

  const line = (data) => {
    const { value, category } = axes(data);
    const end = data.x.labels.length - 1;
    // Quiet lines are the background of the others, which a legend names: their ends may lie on each other.
    const loud = data.series.filter((row) => !row.quiet).map((row) => row.name);
    const named = loud.length < data.series.length;
    const many = data.series.length > 1 && !named;
    const series = [];
    data.series.forEach((row, index) => {
      const hue = colour(row, index);
      if (row.low && row.high) {
        // A band is two stacked areas: an empty one up to `low`, and a tinted one up to `high`.
        const band = { type: "line", stack: `band-${index}`, stackStrategy: "all", symbol: "none", silent: true, lineStyle: { opacity: 0 }, tooltip: { show: false }, z: 1 };
        series.push({ ...band, data: row.low });
        series.push({
          ...band,
          data: row.high.map((high, at) => (high === null || row.low[at] === null ? null : high - row.low[at])),
          areaStyle: { color: hue, opacity: 0.14 },
        });
      }
      const shared = {
        type: "line",
        name: row.name,
        symbol: "circle",
        symbolSize: 6,
        showSymbol: data.x.labels.length <= 16,
        itemStyle: { color: hue },
        z: row.quiet ? 2 : 3,
      };
      const whole = data.running ? row.values.map((item, at) => (at === end ? null : item)) : row.values;
      series.push({
        ...shared,
        data: whole.map((item, at) => ({ value: item, url: row.urls?.[at] })),
        lineStyle: { color: hue, width: row.quiet ? 1 : 2 },
        endLabel: { show: many && !data.running, formatter: () => plain(row.name), ...text(12) },
      });
      if (data.running) {
        series.push({
          ...shared,
          data: row.values.map((item, at) => ({ value: at >= end - 1 ? item : null, url: row.urls?.[at] })),
          lineStyle: { color: hue, width: 2, type: "dashed" },
          endLabel: { show: many, formatter: () => plain(row.name), ...text(12) },
        });
      }
    });
    return {
      ...base(data),
      legend: named
        ? { data: loud, top: 0, left: 0, itemWidth: 16, itemHeight: 8, selectedMode: false, textStyle: { ...text(), color: token("ink") } }
        : undefined,
      grid: { left: 8, right: many ? 96 : 16, top: data.y?.title || named ? 36 : 12, bottom: 8, containLabel: true },
      xAxis: category,
      yAxis: value,
      tooltip: tooltip({ trigger: "axis", formatter: rows(data), axisPointer: { lineStyle: { color: token("control") } } }),
      series,
    };
  };

  const bar = (data) => {
    const { value, category } = axes({ ...data, kind: "bar" });
    const flat = Boolean(data.horizontal);
    return {
      ...base(data),
      legend:
        data.series.length > 1
          ? { top: 0, left: 0, itemWidth: 12, itemHeight: 12, textStyle: { ...text(), color: token("ink") }, inactiveColor: token("control") }
          : undefined,
      grid: { left: 8, right: 16, top: (data.series.length > 1 ? 32 : 8) + (data.y?.title ? 20 : 0), bottom: 8, containLabel: true },
      xAxis: flat ? value : category,
      yAxis: flat ? { ...category, inverse: true } : value,
      tooltip: tooltip({ trigger: "axis", formatter: rows(data), axisPointer: { type: "shadow", shadowStyle: { color: token("ink"), opacity: 0.05 } } }),
      series: data.series.map((row, index) => ({
        type: "bar",
        name: row.name,
        stack: data.stacked ? "all" : undefined,
        barMaxWidth: 36,
        itemStyle: { color: colour(row, index), borderColor: token("surface"), borderWidth: data.stacked ? 1 : 0 },
        data: row.values.map((item, at) => ({
          value: item,
          url: row.urls?.[at],
          // The running period is not finished: lighter, with a dashed edge.
          ...(data.running && at === data.x.labels.length - 1
            ? { itemStyle: { opacity: 0.55, borderType: "dashed", borderColor: token("ink-2"), borderWidth: 1 } }
            : {}),
        })),
      })),
    };
  };

  const builders = { sankey, line, bar };

  const draw = async (figure) => {
    const canvas = figure.querySelector(".canvas");
    const json = figure.querySelector('script[type="application/json"]');
    if (!canvas || !json || !canvas.clientWidth) return; // hidden: the ranked list stands in its place
    const echarts = await load();
    if (!figure.isConnected) return;
    const data = JSON.parse(json.textContent);
    drawn.get(figure)?.dispose();
    const chart = echarts.init(canvas, null, { renderer: "svg" });
    chart.setOption(builders[figure.dataset.chart](data));
    chart.on("click", (hit) => {
      const url = hit.data?.url;
      if (typeof url === "string" && /^([?]|[/](?![/]))/.test(url)) location.assign(url); // only pages of this site
    });
    drawn.set(figure, chart);
    figure.dataset.drawn = "1";
  };

  const failed = (figure) => () => {
    figure.querySelector(".canvas")?.setAttribute("hidden", "");
    const table = figure.querySelector("details");
    if (table) table.open = true;
  };

  const near = new IntersectionObserver(
    (entries) => {
      for (const entry of entries) {
        if (!entry.isIntersecting) continue;
        near.unobserve(entry.target);
        draw(entry.target).catch(failed(entry.target));
      }
    },
    { rootMargin: "200px" },
  );
  const sizes = new ResizeObserver((entries) => {
    for (const { target } of entries) {
      const figure = target.closest("figure");
      const chart = drawn.get(figure);
      if (chart && target.clientWidth) chart.resize();
      else if (!chart && target.clientWidth && figure.dataset.seen) near.observe(figure);
    }
  });

  const find = () => {
    for (const [figure, chart] of drawn) {
      if (figure.isConnected) continue;
      chart.dispose();
      drawn.delete(figure);
    }
    for (const figure of document.querySelectorAll("figure.chart[data-chart]:not([data-seen])")) {
      figure.dataset.seen = "1";
      near.observe(figure);
      const canvas = figure.querySelector(".canvas");
      if (canvas) sizes.observe(canvas);
    }
  };

  document.addEventListener("crm:theme", () => {
    for (const figure of drawn.keys()) draw(figure).catch(failed(figure));
  });
  document.addEventListener("htmx:after:swap", find);
  find();
})();
