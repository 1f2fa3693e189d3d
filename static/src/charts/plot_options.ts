import type uPlot from 'uplot'
import { dayOf, rate } from '../text/format'

export interface PlotSeries {
  metric: string
  label: string
  /** Name of a custom property of the design. */
  colour: string
  format: (value: number | null) => string
  fill?: boolean
  /** A scale of its own with an axis on the right, which reaches at least up to `most`; without it the series uses the axis on the left. */
  scale?: { name: string; most: number }
}

export interface PlotShape {
  /** In the order they are named; the first is drawn last, over the others. */
  series: readonly PlotSeries[]
  /** Highest value of the axis; without it the axis follows the data from 0 on. */
  most?: number
  axis: (value: number) => string
  /** Whether the axis is divided by powers of two, as bytes are. */
  binary?: boolean
  /** Values at which alerts are raised, drawn as dashed lines in a colour of the design. */
  marks?: readonly { value: number; colour: string }[]
  /** Whether the room between lowest and highest is tinted; of many lines it would hide them. */
  bands?: boolean
}

export interface PlotColumn {
  series: PlotSeries
  kind: 'maxima' | 'minima' | 'values'
}

export const wholePercent = (value: number) => `${value}%`
export const rateAxis = (value: number) => rate(value).replace(/\.0+ /, ' ')

export interface PlotHooks {
  colour: (name: string) => string
  onCursor: (index: number | null) => void
  onSelect: (fromMs: number, toMs: number) => void
  onReset: () => void
}

export const PLOT_HEIGHT = 176
const Y_AXIS_PX = 60
/** Kept free in every plot, so that those under one another have the same times under one another. */
const RIGHT_PX = 34
const FONT = "11px 'Inter Variable', system-ui, sans-serif"
const SELECTION_MIN_PX = 8
const POWERS_OF_TWO = Array.from({ length: 60 }, (_, exponent) => 2 ** exponent)

/** The columns of a plot after that of the times: pairs for the bands, then the lines, each from the back to the front. */
export function columnsOf({ series, bands = true }: PlotShape): PlotColumn[] {
  const behindFirst = series.toReversed()
  const edges = behindFirst.flatMap((one): PlotColumn[] => [
    { series: one, kind: 'maxima' },
    { series: one, kind: 'minima' },
  ])
  return [...(bands ? edges : []), ...behindFirst.map((one): PlotColumn => ({ series: one, kind: 'values' }))]
}

export function plotOptions(shape: PlotShape, hooks: PlotHooks, width: number): uPlot.Options {
  const hasRightAxis = shape.series.some((series) => series.scale !== undefined)
  const columns = columnsOf(shape)
  return {
    width,
    height: PLOT_HEIGHT,
    padding: [10, hasRightAxis ? 0 : RIGHT_PX, 0, 0],
    legend: { show: false },
    cursor: {
      sync: { key: 'machine', scales: ['x', null] },
      y: false,
      points: { size: (_, at) => (columns[at - 1]?.kind === 'values' ? 7 : 0), width: 1.5, fill: () => hooks.colour('--surface') },
      drag: { x: true, y: false, setScale: false },
      bind: { dblclick: () => () => (hooks.onReset(), null) },
    },
    scales: { x: { time: true, auto: false }, ...scalesOf(shape) },
    axes: [xAxis(hooks), yAxis(shape, hooks), ...rightAxes(shape, hooks)],
    series: [{}, ...columns.map((column) => seriesOf(column, hooks))],
    bands: columns.flatMap(({ series, kind }, at) =>
      kind === 'maxima' ? [{ series: [at + 1, at + 2] as [number, number], fill: `${hooks.colour(series.colour)}2e` }] : [],
    ),
    hooks: {
      drawClear: [(plot) => drawMarks(plot, shape, hooks)],
      setCursor: [(plot) => hooks.onCursor(plot.cursor.idx ?? null)],
      setSelect: [(plot) => select(plot, hooks)],
    },
  }
}

function scalesOf(shape: PlotShape): uPlot.Scales {
  const fromZero = (_: uPlot, __: number, most: number): [number, number] => [0, most > 0 ? most * 1.15 : 1]
  const scales: uPlot.Scales = { y: { range: shape.most === undefined ? fromZero : [0, shape.most] } }
  for (const { scale } of shape.series) {
    if (scale) scales[scale.name] = { range: (_, __, most) => [0, Math.max(scale.most, most)] }
  }
  return scales
}

function xAxis(hooks: PlotHooks): uPlot.Axis {
  return {
    stroke: hooks.colour('--faint'),
    font: FONT,
    space: 72,
    size: 28,
    grid: { stroke: hooks.colour('--chart-grid'), width: 1 },
    ticks: { show: false },
    values: (_, seconds, __, ___, stepSeconds) => timeLabels(seconds, stepSeconds),
  }
}

function yAxis(shape: PlotShape, hooks: PlotHooks): uPlot.Axis {
  return {
    stroke: hooks.colour('--faint'),
    font: FONT,
    space: 36,
    size: Y_AXIS_PX,
    grid: { stroke: hooks.colour('--chart-grid'), width: 1 },
    ticks: { show: false },
    values: (_, values) => values.map(shape.axis),
    ...(shape.binary && { incrs: POWERS_OF_TWO }),
  }
}

function rightAxes(shape: PlotShape, hooks: PlotHooks): uPlot.Axis[] {
  return shape.series.flatMap((series) =>
    series.scale === undefined
      ? []
      : [
          {
            scale: series.scale.name,
            side: 1,
            stroke: hooks.colour(series.colour),
            font: FONT,
            space: 36,
            size: RIGHT_PX,
            grid: { show: false },
            ticks: { show: false },
            values: (_: uPlot, values: number[]) => values.map((value) => String(value)),
          },
        ],
  )
}

function seriesOf({ series, kind }: PlotColumn, hooks: PlotHooks): uPlot.Series {
  const scale = series.scale?.name ?? 'y'
  if (kind !== 'values') return { scale, stroke: 'transparent', points: { show: false } }
  const stroke = hooks.colour(series.colour)
  return {
    label: series.label,
    scale,
    stroke,
    width: series.fill ? 1.75 : 1.25,
    spanGaps: false,
    points: { show: true, size: 4, fill: stroke, stroke, filter: lonely },
    ...(series.fill && { fill: `${stroke}26` }),
  }
}

/** Indices of the values that have no neighbour to draw a line to. */
function lonely(plot: uPlot, seriesIndex: number, show: boolean): number[] | null {
  const column = plot.data[seriesIndex]
  if (!show || column === undefined) return null
  const found: number[] = []
  for (let at = 0; at < column.length; at++) {
    if (column[at] != null && column[at - 1] == null && column[at + 1] == null) found.push(at)
  }
  return found
}

function drawMarks(plot: uPlot, shape: PlotShape, hooks: PlotHooks): void {
  const { ctx, bbox } = plot
  ctx.save()
  ctx.lineWidth = devicePixelRatio
  ctx.setLineDash([3 * devicePixelRatio, 4 * devicePixelRatio])
  ctx.globalAlpha = 0.55
  for (const mark of shape.marks ?? []) {
    const y = Math.round(plot.valToPos(mark.value, 'y', true)) + 0.5
    if (!Number.isFinite(y) || y < bbox.top || y > bbox.top + bbox.height) continue
    ctx.strokeStyle = hooks.colour(mark.colour)
    ctx.beginPath()
    ctx.moveTo(bbox.left, y)
    ctx.lineTo(bbox.left + bbox.width, y)
    ctx.stroke()
  }
  ctx.restore()
}

function select(plot: uPlot, hooks: PlotHooks): void {
  const { left, width } = plot.select
  if (width < SELECTION_MIN_PX) return
  const [from, to] = [plot.posToVal(left, 'x'), plot.posToVal(left + width, 'x')]
  plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false)
  hooks.onSelect(Math.floor(from * 1000), Math.ceil(to * 1000))
}

function timeLabels(seconds: readonly number[], stepSeconds: number): string[] {
  return seconds.map((second) => {
    const at = new Date(second * 1000)
    const day = dayOf(at).slice(5)
    if (stepSeconds >= 86_400) return day
    const [hours, minutes, rest] = [at.getHours(), at.getMinutes(), at.getSeconds()].map((part) => String(part).padStart(2, '0'))
    if (hours === '00' && minutes === '00' && rest === '00') return day
    return stepSeconds >= 60 ? `${hours}:${minutes}` : `${hours}:${minutes}:${rest}`
  })
}
