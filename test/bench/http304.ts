/**
 * A poll that is answered 304, and one that is answered with the same 2 KB again: polls a second, and processor time of the
 * client. The server, and each way to poll, have a process of their own; their rounds alternate.
 */
import { median, table } from "./measure.js"
import { type Child, start } from "./processes.js"
import type { Counts } from "./server.js"

export interface Round {
  /** Each loop polls the path of its number below it. */
  readonly url: string
  readonly loops: number
  readonly millis: number
}

export interface Measured {
  readonly polls: number
  readonly cpuMicros: number
  readonly millis: number
  readonly changes: number
}

const loops = 64
const millis = 800
// until the code that runs is compiled code
const warmUpMillis = 4000
const reference = "undici.request in a loop"

const names: Record<string, string> = {
  rawUndici: reference,
  bareClient: "HttpClient (undici layer, no tracer) in a loop",
  watchNodeClient: "HttpSource, NodeClient.layer",
  watchNodeHttp: "HttpSource, NodeHttpClient.layer (node:http)",
  watchFetch: "HttpSource, FetchHttpClient.layer",
  fetchAlone: "by hand: fetch, setTimeout",
  fetchRetry: "by hand: fetch, setTimeout, p-retry"
}

interface Setting {
  readonly title: string
  readonly path: string
  readonly rounds: number
  readonly rivals: ReadonlyArray<string>
}

const settings: ReadonlyArray<Setting> = [
  { title: "Polls answered 304", path: "/tagged", rounds: 5, rivals: Object.keys(names) },
  {
    title: "Polls answered 200 with the same 2 KB, no ETag",
    path: "/plain",
    rounds: 3,
    rivals: ["rawUndici", "bareClient", "watchNodeClient", "fetchAlone", "fetchRetry"]
  }
]

/** A rival that skips work is no rival: each loop reports its document once, and fetches once what has an ETag. */
const check = (rival: string, path: string, { changes, polls }: Measured, { full, notModified }: Counts): void => {
  const isRight = path === "/plain" ? notModified === 0 : full === loops
  if (changes !== loops || full + notModified < polls || !isRight) {
    throw new Error(
      `${rival}: ${polls} polls, ${changes} changes of ${loops}, ${full} full answers, ${notModified} others`
    )
  }
}

const measure = async (
  server: Child<object, Counts>,
  children: ReadonlyMap<string, Child<Round, Measured>>,
  origin: string,
  { path, rivals, rounds, title }: Setting
): Promise<void> => {
  const measured = new Map<string, Array<Measured>>(rivals.map((rival) => [rival, []]))
  for (let index = 0; index < rounds; index++) {
    for (const [rival, results] of measured) {
      const result = await children.get(rival)!.ask({ url: origin + path, loops, millis })
      check(rival, path, result, await server.ask({}))
      results.push(result)
    }
  }
  table(
    `${title}: processor time of the client, ${loops} loops, median of ${rounds} rounds of ${millis} ms`,
    "us",
    rivals.map((rival) => {
      const results = measured.get(rival)!
      const perSecond = median(results.map((result) => (result.polls / result.millis) * 1000))
      return {
        name: names[rival]!,
        value: median(results.map((result) => result.cpuMicros / result.polls)),
        note: `${perSecond.toFixed(0).padStart(6)} polls/s`
      }
    }),
    reference
  )
}

export const http304 = async (): Promise<void> => {
  const server = start<object, Counts>("./server.js")
  const children = new Map(
    Object.keys(names).map((rival) => [rival, start<Round, Measured>("./http304Client.js", rival)])
  )
  try {
    const origin = `http://127.0.0.1:${(await server.ask({})).port}`
    for (const child of children.values()) await child.ask({ url: `${origin}/tagged`, loops, millis: warmUpMillis })
    await server.ask({})
    for (const setting of settings) await measure(server, children, origin, setting)
  } finally {
    await Promise.all([server, ...children.values()].map((child) => child.stop()))
  }
}
