import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { NewestMetric } from '../generated/protocol.ts'
import { disksOf, figureWords, interfacesOf, loginsOf, pluginsOf, processesOf, sensorsOf } from './readings.ts'

const newest = (metricType: string, metricData: NewestMetric['metricData']): NewestMetric => ({ metricType, timestamp: 5, metricData })

test('a disk is called by its mount, and what is missing is not known', () => {
  const [root, data] = disksOf([newest('disk./srv', {}), newest('disk./', { mount: '/', fs_type: 'ext4', percent: 34, used_bytes: 1 })])
  assert.deepEqual([root?.mount, root?.percent, root?.readPerSec, data?.mount, data?.percent], ['/', 34, null, '/srv', null])
})

test('errors and drops of both ways are added up, and an interface is up unless it says no', () => {
  const [down, up] = interfacesOf([newest('interface.eth0', { errors_in: 1, errors_out: 2 }), newest('interface.dsl0', { up: false })])
  assert.deepEqual([down?.isUp, up?.isUp, up?.errors, up?.drops], [false, true, 3, 0])
})

test('the hottest sensor comes first, and a field that is no temperature not at all', () => {
  const sensors = sensorsOf([newest('temperature', { nvme_composite_celsius: 40, coretemp_package_id_0_celsius: 61.5, broken_celsius: 'x', other: 9 })])
  assert.deepEqual(sensors.map((sensor) => [sensor.name, sensor.celsius]), [['coretemp package id 0', 61.5], ['nvme composite', 40]])
})

test('processes and logins are rows, whatever they hold', () => {
  assert.deepEqual(processesOf([newest('process_top', { processes: [{ pid: 7, name: '<b>x</b>', cpu_percent: null }] })]), [
    { pid: 7, name: '<b>x</b>', user: '', cpuPercent: null, memoryBytes: null },
  ])
  assert.deepEqual(loginsOf([newest('logins', { sessions: [{ user: 'a', since_ms: 1 }, { user: 'b', since_ms: 2 }] })]).map((one) => one.user), ['b', 'a'])
  assert.deepEqual(processesOf([newest('process_top', { processes: 'none' })]), [])
})

test('a plugin has figures and labels', () => {
  const [plugin] = pluginsOf([newest('custom.backup', { 'label.host': 'nas', age_hours: 2.34567, ok: true, note: 'x' })])
  assert.deepEqual(plugin?.labels, [['host', 'nas']])
  assert.deepEqual(plugin?.figures.map((one) => [one.name, one.words, one.isNumber]), [['age_hours', '2.346', true], ['note', 'x', false], ['ok', 'yes', false]])
})

test('a figure keeps the digits that count', () => {
  assert.deepEqual([0, 12, 0.00012345, 123456.78, -1.5, null, []].map(figureWords), ['0', '12', '0.00012', '123457', '-1.5', '–', '0 rows'])
})
