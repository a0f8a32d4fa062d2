/**
 * Wakes the watchers of a log in PostgreSQL at once, by `LISTEN` and `NOTIFY`, instead of at their next poll.
 *
 * A hint is never needed: it makes entries come sooner, and nothing is lost without it. It notices a connection that went silent,
 * and listens again for as long as the log is open; it never fails and is never waited for.
 *
 * @since 0.1.0
 */
import type { SqlError } from "@effect/sql/SqlError"
import * as PgClient from "@effect/sql-pg/PgClient"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Random from "effect/Random"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { Hints } from "./ChangeLog.js"
import * as notifyChannel from "./notifyChannel.js"

/**
 * How a log is listened to.
 *
 * - `heartbeat`: how often the connection is asked whether it still hears [30 seconds].
 * - `connection`: what is different for the connection that listens, beside the configuration of the client: the address of the
 *   server itself where the client goes through a pooler that shares connections, or `ssl` where it was made from a pool [nothing].
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  readonly heartbeat?: Duration.DurationInput | undefined
  readonly connection?: PgClient.PgClientConfig | undefined
}

/**
 * The channel in which appends to a table are told, for triggers and writers of your own: any payload that is not empty is a hint.
 * It depends on the table's name without its schema, and has 63 bytes at most.
 *
 * **Example**
 * ```ts
 * import * as PgHints from "effect-periscope/log/PgHints"
 *
 * PgHints.channel("audit.orders") // => "periscope_orders"
 * ```
 *
 * @category getters
 * @since 0.1.0
 */
export const channel = (table: string): string => notifyChannel.channelOf(table)

/** The connection does not hear what is said; the message says why. */
class Deaf extends Data.TaggedError("Deaf")<{ readonly message: string }> {}

const hearsWithin = 5000
const firstPause = 1000
const longestPause = 30_000

/** Payloads of this begin are not about entries. */
const alive = "alive "

/**
 * Makes hints for `SqlChangeLog.layer({ hints })`.
 *
 * **Details** Connections of its own listen, one as a rule, beside those of the client. Every `heartbeat` it is sent a message; one that is not heard
 * within 5 seconds means that the connection is dead, and it is made anew: after 1 second, then after twice as long each time, up
 * to 30 seconds. Whenever it has begun to hear, watchers are poked once.
 *
 * **Gotchas** A commit that notifies waits for all others that do so, in the whole server.
 *
 * **Example**
 * ```ts
 * import { PgClient } from "@effect/sql-pg"
 * import { Config, Layer } from "effect"
 * import * as SqlChangeLog from "effect-periscope/log/SqlChangeLog"
 * import * as PgHints from "effect-periscope/log/PgHints"
 *
 * const LogLive = SqlChangeLog.layer({ table: "changes", hints: PgHints.make() }).pipe(
 *   Layer.provide(PgClient.layerConfig({ url: Config.redacted("DATABASE_URL") }))
 * )
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (options: Options = {}): Hints<PgClient.PgClient> => {
  const pause = Duration.toMillis(options.heartbeat ?? "30 seconds")
  if (!(pause > 0 && Number.isFinite(pause))) {
    throw new Error(
      `PgHints: \`heartbeat\` is ${JSON.stringify(options.heartbeat)}; it must be longer than zero, such as "30 seconds".`
    )
  }
  return (log, poke) =>
    Effect.gen(function* () {
      const client = yield* PgClient.PgClient
      const own = { connectTimeout: hearsWithin, ...client.config, maxConnections: 1, minConnections: 0 }
      yield* Effect.forkScoped(listening({ ...own, ...options.connection }, log, poke, pause))
    })
}

/** Listens for ever. */
const listening = (
  config: PgClient.PgClientConfig,
  log: string,
  poke: () => void,
  pause: number
): Effect.Effect<never> =>
  Effect.gen(function* () {
    let failures = 0
    while (true) {
      const error = yield* Effect.flip(
        subscription(config, channel(log), poke, pause, () => {
          failures = 0
        })
      )
      const wait = Math.min(firstPause * 2 ** failures, longestPause)
      failures += 1
      const sentence = `${log}: no hints (${error.message}); new entries are seen at the next poll. Listening again in ${wait} ms.`
      yield* failures === 1 ? Effect.logWarning(sentence) : Effect.logDebug(sentence)
      yield* Effect.sleep(wait)
    }
  })

/** Listens until nothing is heard any more. */
const subscription = (
  config: PgClient.PgClientConfig,
  name: string,
  poke: () => void,
  pause: number,
  onHeard: () => void
): Effect.Effect<never, Deaf> =>
  withinOwnScope((scope) =>
    Effect.gen(function* () {
      const services = yield* Effect.mapError(
        Layer.buildWithScope(PgClient.layer(config), scope),
        deaf("the database cannot be reached")
      )
      const client = Context.get(services, PgClient.PgClient)
      const token = `${alive}${yield* Random.nextIntBetween(0, 2 ** 31)}.${yield* Clock.currentTimeMillis}`
      const heard = { last: -Infinity }
      const ended = yield* Deferred.make<never, Deaf>()
      yield* client.listen(name).pipe(
        Stream.runForEachChunk((payloads) =>
          Effect.map(Clock.currentTimeMillis, (now) => {
            let isNews = false
            for (const payload of payloads) {
              if (payload === token) heard.last = now
              else if (!payload.startsWith(alive)) isNews = true
            }
            if (isNews) poke()
          })
        ),
        Effect.catchAllCause(() => Effect.void),
        Effect.zipRight(Deferred.fail(ended, new Deaf({ message: "the connection that listens has ended" }))),
        Effect.forkIn(scope)
      )
      const beating = Effect.gen(function* () {
        for (let isFirst = true; ; isFirst = false) {
          yield* beat(client, name, token, heard)
          if (isFirst) {
            // what was said before it listened was not heard
            poke()
            onHeard()
          }
          yield* Effect.sleep(pause)
        }
      })
      return yield* Effect.raceFirst(beating, Deferred.await(ended))
    })
  )

const deaf =
  (message: string) =>
  (_: SqlError): Deaf =>
    new Deaf({ message })

/** Asks whether what is said is heard, more than once: the first time nobody may listen yet. */
const beat = (
  client: PgClient.PgClient,
  name: string,
  token: string,
  heard: { readonly last: number }
): Effect.Effect<void, Deaf> =>
  Effect.gen(function* () {
    const started = yield* Clock.currentTimeMillis
    let wait = 10
    while ((yield* Clock.currentTimeMillis) - started < hearsWithin) {
      yield* Effect.timeoutFail(
        Effect.mapError(
          client.withoutTransforms().unsafe("SELECT pg_notify($1, $2)", [name, token]),
          deaf("the database cannot be reached")
        ),
        { duration: hearsWithin, onTimeout: () => new Deaf({ message: "the database does not answer" }) }
      )
      yield* Effect.sleep(wait)
      if (heard.last >= started) return
      wait = Math.min(wait * 2, 500)
    }
    return yield* new Deaf({ message: "the connection that listens has gone silent" })
  })

/** Runs with a scope whose closing is not waited for longer than a second: a dead connection may never say that it has ended. */
const withinOwnScope = <A, E>(f: (scope: Scope.Scope) => Effect.Effect<A, E>): Effect.Effect<A, E> =>
  Effect.acquireUseRelease(Scope.make(), f, (scope) =>
    Effect.gen(function* () {
      const closing = yield* Effect.forkDaemon(Scope.close(scope, Exit.void))
      yield* Effect.timeoutOption(Effect.interruptible(Fiber.await(closing)), "1 second")
    })
  )
