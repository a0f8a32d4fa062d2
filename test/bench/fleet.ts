/**
 * Ten thousand watches of one host: what they cost, and how punctual they are. Each rival, and the server, has a process of
 * its own; the rivals run one after the other, for two minutes each.
 *
 * `FLEET_SIZE`, `FLEET_INTERVAL` and `FLEET_SECONDS` (of measuring, after each watch has polled once) make it smaller.
 */
import { start, startWith } from "./processes.js"
import type { Counts } from "./server.js"

export interface Fleet {
  readonly origin: string
  readonly size: number
  readonly intervalMillis: number
  readonly millis: number
}

export interface FleetMeasured {
  readonly cpuPercent: number
  readonly rssBefore: number
  readonly rssAfter: number
  readonly polls: number
  readonly errors: number
  /** Milliseconds from the instant at which a poll was due to its begin. */
  readonly lateness: { readonly p50: number; readonly p99: number; readonly max: number }
}

const number = (name: string, fallback: number): number => Number(process.env[name] ?? fallback)

/** V8 takes the memory that it is given: a bound shows what is needed. */
const bounded = ["--max-old-space-size=256"]

const rivals: ReadonlyArray<readonly [name: string, rival: string, execArgv: ReadonlyArray<string>]> = [
  ["Watcher.runForEach(HttpSource), NodeClient.layer", "watchers", []],
  [`the same, node ${bounded}`, "watchers", bounded],
  ["by hand: fetch, setTimeout, p-retry", "byHand", []],
  [`the same, node ${bounded}`, "byHand", bounded]
]

const measure = async (rival: string, execArgv: ReadonlyArray<string>, fleet: Omit<Fleet, "origin">) => {
  const server = start<object, Counts>("./server.js")
  const child = startWith<Fleet, FleetMeasured>(execArgv, "./fleetClient.js", rival)
  try {
    const { port } = await server.ask({})
    const measured = await child.ask({ ...fleet, origin: `http://127.0.0.1:${port}` })
    return { ...measured, connections: await server.ask({}) }
  } finally {
    await Promise.all([child.stop(), server.stop()])
  }
}

export const fleet = async (): Promise<void> => {
  const size = number("FLEET_SIZE", 10_000)
  const intervalMillis = number("FLEET_INTERVAL", 30) * 1000
  const millis = number("FLEET_SECONDS", 80) * 1000
  console.log(`\nA fleet: ${size} watches of one host, one poll in ${intervalMillis / 1000} s each, ${millis / 1000} s`)
  for (const [name, rival, execArgv] of rivals) {
    const { connections, cpuPercent, errors, lateness, polls, rssAfter, rssBefore } = await measure(rival, execArgv, {
      size,
      intervalMillis,
      millis
    })
    const { max, p50, p99 } = lateness
    console.log(`  ${name}`)
    console.log(`    processor     ${cpuPercent.toFixed(1)} % of a core, ${polls} polls, ${errors} failed`)
    console.log(`    memory (RSS)  ${rssBefore.toFixed(0)} MB before, ${rssAfter.toFixed(0)} MB with all of them`)
    console.log(`    late by       ${p50.toFixed(1)} ms p50, ${p99.toFixed(1)} ms p99, ${max.toFixed(1)} ms at most`)
    console.log(`    connections   ${connections.open} open, ${connections.accepted} made`)
  }
}
