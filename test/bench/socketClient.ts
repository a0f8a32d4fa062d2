/** One way to follow a socket, in a process of its own. */
import { Effect, Logger, LogLevel, Stream } from "effect"
import { Backoff } from "effect-periscope"
import { ReconnectingSocket } from "effect-periscope/socket"
import * as NodeConnector from "effect-periscope/socket/NodeConnector"
import { WebSocket } from "ws"
import { cpu, heap } from "./measure.js"
import { serve } from "./processes.js"

export type Task =
  | { readonly _tag: "events"; readonly url: string }
  | { readonly _tag: "slow"; readonly url: string; readonly millis: number }
  | { readonly _tag: "open"; readonly url: string; readonly clients: number; readonly jitter: number }
  | { readonly _tag: "reopened" }

export interface Measured {
  readonly events: number
  readonly millis: number
  readonly cpuMicros: number
  readonly heapBytes: number
  readonly rssBytes: number
}

interface Event {
  readonly id: number
  readonly type: string
}

const parse = (frame: unknown): Event => JSON.parse(String(frame)) as Event
const ackOf = ({ id }: Event): string => `{"type":"ack","id":${id}}`
const layer = NodeConnector.layer()

let sum = 0
let events = 0
const handle = (event: Event): void => {
  sum += event.id
  events++
}

const options = (url: string) => ({ url, decode: parse, ack: ackOf, maxReconnectAttempts: 0 })

/** Each ends when the server says goodbye. */
const ways: Record<string, (url: string) => Promise<unknown>> = {
  raw: (url) =>
    new Promise<void>((resolve) => {
      const socket = new WebSocket(url, { perMessageDeflate: false })
      socket.on("message", (data) => {
        const event = parse(data)
        handle(event)
        socket.send(ackOf(event))
      })
      socket.on("close", () => resolve())
    }),
  runForEach: (url) =>
    Effect.runPromise(
      Effect.either(
        ReconnectingSocket.runForEach(options(url), (event) => Effect.sync(() => handle(event))).pipe(
          Effect.provide(layer)
        )
      )
    ),
  keyed: (url) =>
    Effect.runPromise(
      Effect.either(
        ReconnectingSocket.runForEach(
          {
            ...options(url),
            key: ({ id }: Event) => `key ${id}`,
            orderBy: ({ id }: Event) => `did:plc:${id % 1000}`
          },
          (event) => Effect.sync(() => handle(event)),
          { concurrency: 16 }
        ).pipe(Effect.provide(layer))
      )
    ),
  stream: (url) =>
    Effect.runPromise(
      Effect.either(
        ReconnectingSocket.received(options(url)).pipe(
          Stream.runForEach(({ ack, item }) => {
            handle(item)
            return ack
          }),
          Effect.provide(layer)
        )
      )
    )
}

const way = ways[process.argv[2]!]!

/** How many of the clients have had a frame since they were counted last. */
let heard = 0
let onHeard = (): void => {}

const wasHeard = (): void => {
  heard++
  onHeard()
}

/** By hand: again after a second. */
const openRaw = (url: string): void => {
  const socket = new WebSocket(url, { perMessageDeflate: false })
  socket.on("message", (data) => {
    wasHeard()
    socket.send(ackOf(parse(data)))
  })
  socket.on("error", () => {})
  socket.on("close", () => setTimeout(() => openRaw(url), 1000))
}

const openAll = (url: string, clients: number, jitter: number): void => {
  if (process.argv[2] === "raw") {
    for (let count = 0; count < clients; count++) openRaw(url)
    return
  }
  const backoff = Backoff.make({ first: "1 second", max: "1 minute", jitter })
  const client = ReconnectingSocket.runForEach({ url, decode: parse, ack: ackOf, backoff, name: "storm" }, () =>
    Effect.sync(wasHeard)
  )
  Effect.runFork(
    Effect.forEach(Array.from({ length: clients }), () => client, { concurrency: "unbounded", discard: true }).pipe(
      Effect.provide(layer),
      Logger.withMinimumLogLevel(LogLevel.None)
    )
  )
}

let clients = 0
const allHeard = (): Promise<void> =>
  new Promise((resolve) => {
    onHeard = () => {
      if (heard < clients) return
      heard = 0
      resolve()
    }
    onHeard()
  })

const slowly = (url: string, millis: number): Promise<unknown> =>
  Effect.runPromise(
    ReconnectingSocket.runForEach({ ...options(url), name: "slow" }, (event) =>
      Effect.zipRight(
        Effect.sleep(1),
        Effect.sync(() => handle(event))
      )
    ).pipe(Effect.provide(layer), Effect.timeoutOption(millis), Effect.either)
  )

serve<Task, Measured>(async (task) => {
  const before = cpu()
  const start = performance.now()
  events = 0
  const heapBefore = task._tag === "slow" || task._tag === "open" ? await heap() : 0
  let rssBytes = 0
  if (task._tag === "events") await way(task.url)
  else if (task._tag === "open") {
    clients = task.clients
    openAll(task.url, task.clients, task.jitter)
    await allHeard()
  } else if (task._tag === "reopened") await allHeard()
  else {
    const running = slowly(task.url, task.millis)
    await new Promise((resolve) => setTimeout(resolve, task.millis - 500))
    const heapBytes = (await heap()) - heapBefore
    rssBytes = process.memoryUsage().arrayBuffers
    await running
    return { events, millis: performance.now() - start, cpuMicros: cpu() - before, heapBytes, rssBytes }
  }
  const millis = performance.now() - start
  const cpuMicros = cpu() - before
  if (sum < 0) throw new Error("impossible")
  const heapBytes = task._tag === "open" ? (await heap()) - heapBefore : 0
  return { events, millis, cpuMicros, heapBytes, rssBytes }
})
