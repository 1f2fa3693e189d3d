import type { DrawnPlot } from '../charts/PlotGrid.svelte'
import { rateAxis, wholePercent } from '../charts/plot_options'
import { percent, plain, rate } from '../text/format'
import { figureWords } from '../text/readings'

/** Colours of lines that are of one kind, in the order they are given. */
export const LINES = ['--line-1', '--line-2', '--line-3', '--line-4', '--line-5', '--line-6', '--line-7', '--line-8'] as const

export const DISK_PLOTS: readonly DrawnPlot[] = [
  { title: 'Used', testid: 'chart-of-disk', shape: { series: [{ metric: 'percent', label: 'used', colour: '--chart-disk', format: percent, fill: true }], most: 100, axis: wholePercent } },
  {
    title: 'Work',
    testid: 'chart-of-disk-work',
    shape: {
      series: [
        { metric: 'read_bytes_per_sec', label: 'read', colour: '--chart-received', format: rate, fill: true },
        { metric: 'write_bytes_per_sec', label: 'written', colour: '--chart-sent', format: rate },
      ],
      axis: rateAxis,
    },
  },
]

export const INTERFACE_PLOTS: readonly DrawnPlot[] = [
  {
    title: 'Traffic',
    testid: 'chart-of-interface',
    shape: {
      series: [
        { metric: 'recv_bytes_per_sec', label: 'received', colour: '--chart-received', format: rate, fill: true },
        { metric: 'sent_bytes_per_sec', label: 'sent', colour: '--chart-sent', format: rate },
      ],
      axis: rateAxis,
    },
  },
]

export function temperaturePlot(sensors: readonly { metric: string; name: string }[]): DrawnPlot {
  const series = sensors.slice(0, LINES.length).map(({ metric, name }, at) => ({ metric, label: name, colour: LINES[at]!, format: (value: number | null) => degrees(value) }))
  return { title: 'Temperature', testid: 'chart-of-temperature', shape: { series, axis: (value) => `${value} °C`, bands: series.length === 1 } }
}

export function degrees(value: number | null): string {
  return value === null ? '–' : `${plain(value, 1)} °C`
}

/** A plot a figure: nobody knows whether figures of a plugin have the same unit. */
export function pluginPlots(figures: readonly string[]): DrawnPlot[] {
  return figures.slice(0, LINES.length).map((name, at) => ({
    title: name,
    testid: `chart-of-figure-${at}`,
    shape: { series: [{ metric: name, label: '', colour: LINES[at]!, format: figureWords, fill: true }], axis: figureWords },
  }))
}
