/**
 * What the benchmarks share: processor time, heap after a collection, and a table of ratios.
 */
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"

setFlagsFromString("--expose-gc")
const collect = runInNewContext("gc") as () => void

/** Bytes in use after a full collection. */
export const heap = async (): Promise<number> => {
  for (let round = 0; round < 4; round++) {
    collect()
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  return process.memoryUsage().heapUsed
}

/** The same at once, without a turn of the event loop: for programs on a virtual clock. */
export const heapNow = (): number => {
  collect()
  collect()
  return process.memoryUsage().heapUsed
}

/** Microseconds of processor time since `before`. */
export const cpu = (before?: NodeJS.CpuUsage): number => {
  const { system, user } = process.cpuUsage(before)
  return system + user
}

export const median = (values: ReadonlyArray<number>): number => {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN
}

export interface Row {
  readonly name: string
  readonly value: number
  /** What else was seen. */
  readonly note?: string
}

/** Prints a table whose last column compares each row with the reference. */
export const table = (title: string, unit: string, rows: ReadonlyArray<Row>, reference: string): void => {
  const base = rows.find((row) => row.name === reference)?.value ?? Number.NaN
  const width = Math.max(...rows.map((row) => row.name.length))
  console.log(`\n${title}`)
  for (const { name, note = "", value } of rows) {
    const ratio = name === reference ? "1.00 (reference)" : (value / base).toFixed(2)
    console.log(
      `  ${name.padEnd(width)}  ${value.toFixed(1).padStart(8)} ${unit}  ${ratio.padEnd(16)}  ${note}`.trimEnd()
    )
  }
}
