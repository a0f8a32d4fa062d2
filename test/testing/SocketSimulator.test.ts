import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { Connector } from "effect-periscope/socket"
import { SocketSimulator } from "effect-periscope/testing"
import { breaks, fired, holds } from "./simulation.js"

const trials = 1000

const faults = [
  ...["opened", "acked", "handler", "in handler", "handled"].map((label) => `crash: ${label}`),
  ...["unreachable", "refused", "hang", "slow", "closed at once", "reset", "closed", "half-open", "reads nothing"],
  "sent again",
  "handler fails"
]

describe("SocketSimulator", () => {
  it("2(d) S5 S6 S8: a socket keeps every promise", { timeout: 120_000 }, async () => {
    const report = await holds("a socket", SocketSimulator.run({ trials }))
    assert.isAbove(report.crashes, trials)
    assert.isAbove(report.redelivered, 0)
    fired(report, faults)
  })

  it("follows from its seed", async () => {
    const once = () => Effect.runPromise(SocketSimulator.run({ trials: 20, seed: 5 }))
    assert.deepStrictEqual(await once(), await once())
  })
})

type Follow = NonNullable<SocketSimulator.Options["follow"]>

/** Acks wait for the next ones, and go to the connection of that time. */
const queuedAcks: Follow = (task) =>
  Effect.flatMap(Connector.Connector, (connector) => {
    const queue: Array<Connector.Frame> = []
    return Effect.provideService(SocketSimulator.follow()(task), Connector.Connector, {
      connect: (request, listener) =>
        connector.connect(request, {
          ...listener,
          onOpen: (connection) => {
            const send = (frames: ReadonlyArray<Connector.Frame>): boolean => {
              queue.push(...frames)
              return connection.send(queue.splice(0, Math.max(0, queue.length - 1)))
            }
            listener.onOpen({ ...connection, send })
          }
        })
    })
  })

/** Frames that come while reading is paused are dropped. */
const droppedFrames: Follow = (task) =>
  Effect.flatMap(Connector.Connector, (connector) => {
    let isPaused = false
    return Effect.provideService(SocketSimulator.follow()(task), Connector.Connector, {
      connect: (request, listener) =>
        connector.connect(request, {
          ...listener,
          onFrame: (frame) => (isPaused ? undefined : listener.onFrame(frame)),
          onOpen: (connection) => {
            isPaused = false
            listener.onOpen({
              ...connection,
              pause: () => {
                isPaused = true
              },
              resume: () => {
                isPaused = false
              }
            })
          }
        })
    })
  })

describe("planted mistakes of clients", () => {
  const found = (name: string, follow: Follow) =>
    it(name, { timeout: 60_000 }, async () => {
      const violation = await breaks(name, SocketSimulator.run({ follow, trials: 300 }))
      await holds(`${name}, mended`, SocketSimulator.run({ firstTrial: violation.trial, trials: 1 }))
    })

  found("S5 an ack before the handler has finished", (task) =>
    SocketSimulator.follow()({ ...task, handle: (event) => Effect.forkDaemon(task.handle(event)).pipe(Effect.asVoid) })
  )
  found("S5 an ack though the handler has failed", (task) =>
    SocketSimulator.follow()({ ...task, handle: (event) => Effect.ignore(task.handle(event)) })
  )
  found("S5 acks that wait across connections", queuedAcks)
  found("S8 ids of the server taken for keys", SocketSimulator.follow({ key: ({ id }) => String(id) }))
  found("2(d) no window: what comes again is handled again", SocketSimulator.follow({ key: undefined }))
  found("2(d) a window that is too small", SocketSimulator.follow({ windowSize: 0 }))
  found("S6 entities that are not kept in order", SocketSimulator.follow({ orderBy: undefined }))
  found("S3 frames dropped in place of a pause", droppedFrames)
  found("S1 a client that gives up", SocketSimulator.follow({ maxReconnectAttempts: 1 }))
  found("S2 a client that never notices silence", SocketSimulator.follow({ idleTimeout: Infinity }))
})
