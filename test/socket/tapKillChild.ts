/**
 * A process that follows a Tap server, and gets killed: `url trace run seed aim skip`.
 *
 * It writes down what it does, each line behind the number of its run: `C` connects, `H did n` begins with an event,
 * `W did n` has handled it, `S` sends acks, `A` has sent them. With an aim it kills itself there, or as it receives, `R`, after it came by
 * `skip` times.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import { openSync, writeSync } from "node:fs"
import type { Connection } from "../../src/socket/Connector.js"
import { Connector } from "../../src/socket/Connector.js"
import * as NodeConnector from "../../src/socket/NodeConnector.js"
import * as Tap from "../../src/socket/Tap.js"

const [url = "", trace = "", run = "", seed = "1", aim = "-", skip = "0"] = process.argv.slice(2)
const out = openSync(trace, "a")
// one write each, so that the lines of two processes do not mix
const note = (text: string): void => void writeSync(out, `${run} ${text}.\n`)

let state = Number(seed) >>> 0
const random = (): number => {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0
  return state / 2 ** 32
}

let left = Number(skip)
const pass = (window: string): void => {
  if (window !== aim || left-- > 0) return
  if (window === "R") note("R")
  process.kill(process.pid, "SIGKILL")
  for (;;);
}

const noted = (connection: Connection): Connection =>
  Object.create(connection, {
    send: {
      value: (frames: Parameters<Connection["send"]>[0]) => {
        note("S")
        pass("S")
        const isSent = connection.send(frames)
        note("A")
        pass("A")
        return isSent
      }
    }
  }) as Connection

const connector = Layer.effect(
  Connector,
  Effect.map(Connector, ({ connect }) => ({
    connect: (request, listener) =>
      Effect.suspend(() => {
        note("C")
        pass("C")
        return connect(request, {
          onOpen: (connection) => listener.onOpen(noted(connection)),
          onFrame: (frame) => {
            pass("R")
            listener.onFrame(frame)
          },
          onAlive: listener.onAlive,
          onDrain: listener.onDrain,
          onClose: listener.onClose
        })
      })
  }))
).pipe(Layer.provide(NodeConnector.layer()))

const program = Tap.runForEach(
  { url },
  (event) =>
    Effect.gen(function* () {
      const what = event.type === "record" ? `${event.record.did} ${event.record.rkey}` : ""
      note(`H ${what}`)
      pass("H")
      // some take longer than others
      yield* random() < 0.1 ? Effect.sleep(random() * 5) : Effect.yieldNow()
      note(`W ${what}`)
      pass("W")
    }),
  { concurrency: 64 }
)

note("+")
Effect.runFork(program.pipe(Effect.provide([connector, Logger.remove(Logger.defaultLogger)])))
