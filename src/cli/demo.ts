/**
 * A demonstration on a server of its own: a document that changes by itself, watched as `periscope watch` would.
 */
import type * as HttpClient from "@effect/platform/HttpClient"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import type { Server } from "node:http"
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import type { Plan } from "./plan.js"
import type { Screen } from "./screen.js"
import type { HttpTarget } from "./sourceUri.js"
import { coloured, plain } from "./text.js"
import * as watching from "./watching.js"

/** What the embedded server answers: a document, or a status without one. */
type Answer = { readonly json: unknown } | { readonly status: number }

interface Step {
  readonly says: string
  readonly answer: Answer
  readonly millis: number
}

const first = { greeting: "hello", replicas: 2 }
const second = { greeting: "hello", replicas: 3, beta: true }
const third = { greeting: "good evening", replicas: 3 }

const steps: ReadonlyArray<Step> = [
  { says: "There is a document: the first sight of it is a change too.", answer: { json: first }, millis: 2500 },
  { says: "The document changes.", answer: { json: second }, millis: 2500 },
  { says: "The server fails for a moment: no change, but longer waits.", answer: { status: 500 }, millis: 3500 },
  { says: "It is back, with a document that changed meanwhile.", answer: { json: third }, millis: 3000 },
  { says: "The document is taken away.", answer: { status: 404 }, millis: 2000 },
  { says: "And it comes again.", answer: { json: first }, millis: 1500 }
]

/** Shows it, for about 15 seconds or until `stop`. Gives the exit code. */
export const run = (
  screen: Screen,
  stop: Deferred.Deferred<void>
): Effect.Effect<number, never, HttpClient.HttpClient> =>
  Effect.scoped(
    Effect.gen(function* () {
      const server = yield* serve
      const plan = planOf(server.url)
      const paint = screen.hasColour.stdout ? coloured : plain
      const say = (text: string): Effect.Effect<void> => Effect.ignore(screen.write(text))
      yield* say(
        `${paint("bold", "periscope")} watches a small server of its own, for 15 seconds; Ctrl-C ends it.\n` +
          `${paint("dim", `$ periscope watch demo=${server.url} --interval 500ms --max-backoff 1s`)}\n\n`
      )
      const played = Effect.forEach(
        steps,
        ({ answer, millis, says }) =>
          Effect.zipRight(
            say(`${paint("cyan", `# ${says}`)}\n`),
            Effect.zipRight(server.answer(answer), Effect.sleep(millis))
          ),
        { discard: true }
      )
      // the first answer is in place before the first poll
      const playing = yield* Effect.fork(Effect.zipRight(played, Deferred.succeed(stop, undefined)))
      yield* Effect.sleep(100)
      const code = yield* watching.run(plan, screen, stop)
      yield* Fiber.interrupt(playing)
      yield* say(
        `\nThat was it. Now something of yours:\n` +
          `${paint("bold", "  npm start -- watch https://example.com/ --interval 10s")}   (installed: periscope watch …)\n` +
          `${paint("bold", "  npm start -- --help")}\n`
      )
      return code
    })
  )

const targetOf = (address: string): HttpTarget => ({
  kind: "http",
  name: "demo",
  isNamed: true,
  url: new URL(address),
  publicUrl: address
})

const planOf = (url: string): Plan => ({
  command: "watch",
  sources: [{ target: targetOf(url), headers: {}, bearerToken: undefined, paths: undefined }],
  intervalMillis: 500,
  maxBackoffMillis: 1000,
  giveUpAfterMillis: undefined,
  jitter: 0,
  initial: "emit",
  state: undefined,
  reset: [],
  approve: [],
  format: "pretty",
  timeoutMillis: undefined,
  maxBodyBytes: undefined,
  exec: undefined,
  logLevel: "warning"
})

interface DemoServer {
  readonly url: string
  readonly answer: (answer: Answer) => Effect.Effect<void>
}

const serve: Effect.Effect<DemoServer, never, Scope.Scope> = Effect.gen(function* () {
  let current: Answer = { status: 404 }
  const server = yield* Effect.acquireRelease(
    Effect.async<Server>((resume) => {
      const server = createServer((_, response) => {
        if ("json" in current) {
          response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(current.json))
        } else {
          response.writeHead(current.status).end()
        }
      })
      server.listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
    }),
    (server) =>
      Effect.sync(() => {
        server.closeAllConnections()
        server.close()
      })
  )
  const { port } = server.address() as AddressInfo
  return {
    url: `http://127.0.0.1:${port}/settings.json`,
    answer: (answer) => Effect.sync(() => void (current = answer))
  }
})
