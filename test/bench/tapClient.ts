/** One client of Tap, in a process of its own, under the Node that the others need. */
import { Effect, Fiber, Logger, LogLevel } from "effect"
import * as NodeConnector from "effect-periscope/socket/NodeConnector"
import { Tap } from "effect-periscope/socket"
import { pathToFileURL } from "node:url"
import { WebSocket } from "ws"
import { cpu } from "./measure.js"
import { serve } from "./processes.js"

/** Handles so many events, each of which takes some time. */
export interface Task {
  readonly url: string
  readonly events: number
  readonly handlerMillis: number
}

export interface Measured {
  readonly cpuMicros: number
}

const [way = "", modules = ""] = process.argv.slice(2)
const load = (file: string): Promise<unknown> => import(pathToFileURL(`${modules}/${file}`).href)

let sum = 0
const touch = (event: { readonly id: number }): void => void (sum += event.id)
const wait = (millis: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, millis))

/** Follows until `isDone`, which is called behind each event. Gives what ends it. */
type Way = (task: Task, isDone: () => void) => Promise<() => Promise<unknown> | void>

const raw: Way = (task, isDone) => {
  const socket = new WebSocket(`${task.url.replace("http", "ws")}/channel`, { perMessageDeflate: false })
  socket.on("message", (data) => {
    const event = JSON.parse(String(data)) as { readonly id: number }
    const finish = (): void => {
      touch(event)
      socket.send(`{"type":"ack","id":${event.id}}`)
      isDone()
    }
    if (task.handlerMillis === 0) finish()
    else setTimeout(finish, task.handlerMillis)
  })
  return Promise.resolve(() => socket.terminate())
}

const periscope =
  (concurrency: number): Way =>
  async (task, isDone) => {
    const slow = Effect.sleep(task.handlerMillis)
    const fiber = Effect.runFork(
      Tap.runForEach(
        { url: task.url },
        (event) => {
          const done = Effect.sync(() => {
            touch(event)
            isDone()
          })
          return task.handlerMillis === 0 ? done : Effect.zipRight(slow, done)
        },
        { concurrency }
      ).pipe(Effect.provide(NodeConnector.layer()), Logger.withMinimumLogLevel(LogLevel.None))
    )
    return () => Effect.runPromise(Fiber.interrupt(fiber))
  }

interface Event {
  readonly id: number
}

interface Official {
  readonly Tap: new (url: string) => {
    channel(handler: {
      onEvent: (event: Event, options: { ack: () => Promise<void> }) => Promise<void>
      onError: (error: Error) => void
    }): { start(): Promise<void>; destroy(): Promise<void> }
  }
}

const atproto: Way = async (task, isDone) => {
  const { Tap } = (await load("@atproto/tap/dist/index.js")) as Official
  const channel = new Tap(task.url).channel({
    onEvent: async (event, { ack }) => {
      if (task.handlerMillis > 0) await wait(task.handlerMillis)
      touch(event)
      await ack()
      isDone()
    },
    onError: (error) => {
      throw error
    }
  })
  channel.start().catch(() => {})
  return () => channel.destroy()
}

interface Atcute {
  readonly TapClient: new (options: { url: string }) => {
    subscribe(): AsyncIterable<{ readonly event: Event; readonly ack: () => Promise<void> }>
  }
}

const atcute: Way = async (task, isDone) => {
  const { TapClient } = (await load("@atcute/tap/dist/index.js")) as Atcute
  const iterator = new TapClient({ url: task.url }).subscribe()[Symbol.asyncIterator]()
  const follow = async (): Promise<void> => {
    for (;;) {
      const { done, value } = await iterator.next()
      if (done === true) return
      if (task.handlerMillis > 0) await wait(task.handlerMillis)
      touch(value.event)
      await value.ack()
      isDone()
    }
  }
  void follow()
  return () => iterator.return?.()
}

const ways: Readonly<Record<string, Way>> = {
  raw,
  one: periscope(1),
  many: periscope(64),
  all: periscope(1000),
  atproto,
  atcute
}

serve(async (task: Task): Promise<Measured> => {
  const before = process.cpuUsage()
  let handled = 0
  let stop: (() => Promise<unknown> | void) | undefined
  await new Promise<void>((resolve) => {
    const isDone = (): void => {
      // acks are on their way
      if (++handled === task.events) setTimeout(resolve, 20)
    }
    void ways[way]!(task, isDone).then((end) => (stop = end))
  })
  const cpuMicros = cpu(before)
  await stop?.()
  return { cpuMicros }
})
