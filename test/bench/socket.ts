/**
 * Events over a socket, parsed, handled and acked, against a raw `ws` loop that does the same: processor time of the client. The
 * memory of a client whose handler is slow; and a thousand clients whose server cuts them all at once. The server, and each way to
 * follow it, have a process of their own; their rounds alternate.
 */
import { median, table } from "./measure.js"
import { type Child, start } from "./processes.js"
import type { Measured, Task } from "./socketClient.js"
import type { Counts, Order } from "./socketServer.js"

const names: Record<string, string> = {
  raw: "raw ws loop",
  runForEach: "ReconnectingSocket.runForEach",
  keyed: "  with key and orderBy (1000), 16 at once",
  stream: "ReconnectingSocket.received, Stream.runForEach"
}

const rounds = 5
const clients = 1000

const settings = [
  { bytes: 300, events: 60_000 },
  { bytes: 3000, events: 30_000 }
]

type Server = Child<Order, Counts>
type Client = Child<Task, Measured>

const rate = async (server: Server, children: ReadonlyMap<string, Client>, origin: string): Promise<void> => {
  const ask = async (way: string, bytes: number, events: number): Promise<Measured> => {
    const measured = await children
      .get(way)!
      .ask({ _tag: "events", url: `${origin}/events?count=${events}&bytes=${bytes}` })
    const { acks } = await server.ask({})
    // one that skips work is no rival
    if (acks !== events || measured.events !== events) {
      throw new Error(`${way}: ${measured.events} handled and ${acks} acked of ${events}`)
    }
    return measured
  }
  for (const way of children.keys()) await ask(way, 300, 40_000)
  for (const { bytes, events } of settings) {
    const results = new Map([...children.keys()].map((way) => [way, [] as Array<Measured>]))
    for (let round = 0; round < rounds; round++) {
      for (const [way, list] of results) list.push(await ask(way, bytes, events))
    }
    table(
      `Events of ${bytes} bytes, parsed, handled and acked: processor time of the client, median of ${rounds} rounds of ${events}`,
      "us",
      [...results].map(([way, list]) => ({
        name: names[way]!,
        value: median(list.map(({ cpuMicros }) => cpuMicros / events)),
        note: `${median(list.map(({ millis }) => (events / millis) * 1000))
          .toFixed(0)
          .padStart(7)} events/s`
      })),
      names.raw!
    )
  }
}

const mega = (bytes: number): string => (bytes / 1024 / 1024).toFixed(1)

const memory = async (origin: string): Promise<void> => {
  console.log("\nA handler of 1 ms behind a server that sends 3 KB events as fast as they are read")
  for (const millis of [2000, 5000]) {
    const client = start<Task, Measured>("./socketClient.js", "raw")
    try {
      const slow = await client.ask({ _tag: "slow", url: `${origin}/events?count=1000000&bytes=3000`, millis })
      console.log(
        `  after ${(millis / 1000).toFixed(0)} s and ${slow.events} events: heap ${mega(slow.heapBytes)} MB more than before, buffers ${mega(slow.rssBytes)} MB`
      )
    } finally {
      await client.stop()
    }
  }
}

const storms: ReadonlyArray<readonly [string, string, number]> = [
  ["raw ws, again after 1 s", "raw", 0],
  ["ReconnectingSocket", "runForEach", 0],
  ["  with jitter 0.5", "runForEach", 0.5]
]

const storm = async (server: Server, origin: string): Promise<void> => {
  const rows = []
  for (const [name, way, jitter] of storms) {
    const client = start<Task, Measured>("./socketClient.js", way)
    try {
      const opened = await client.ask({ _tag: "open", url: `${origin}/quiet`, clients, jitter })
      const [reopened] = await Promise.all([client.ask({ _tag: "reopened" }), server.ask({ cut: true })])
      const { quiet } = await server.ask({})
      if (quiet !== clients) throw new Error(`${quiet} connections of ${clients}`)
      rows.push({
        name,
        value: reopened.cpuMicros / clients,
        note: `all open again after ${reopened.millis.toFixed(0)} ms; ${(opened.heapBytes / clients / 1024).toFixed(1)} KB of heap each`
      })
    } finally {
      await client.stop()
    }
  }
  table(
    `${clients} sockets in one process, all cut at once: processor time of the client for each`,
    "us",
    rows,
    storms[0]![0]
  )
}

export const socket = async (): Promise<void> => {
  const server = start<Order, Counts>("./socketServer.js")
  const children = new Map(Object.keys(names).map((way) => [way, start<Task, Measured>("./socketClient.js", way)]))
  try {
    const origin = `ws://127.0.0.1:${(await server.ask({})).port}`
    await rate(server, children, origin)
    await Promise.all([...children.values()].map((child) => child.stop()))
    await memory(origin)
    await storm(server, origin)
  } finally {
    await Promise.all([server, ...children.values()].map((child) => child.stop()))
  }
}
