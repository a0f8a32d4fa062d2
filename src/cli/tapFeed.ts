/**
 * Follows a Tap server for the command line: its events as batches, each acknowledged once it was printed or handled.
 */
import * as Chunk from "effect/Chunk"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Subscribable from "effect/Subscribable"
import { createHash } from "node:crypto"
import * as Change from "../core/Change.js"
import type { Batch } from "../core/Watcher.js"
import * as NodeConnector from "../socket/NodeConnector.js"
import * as Tap from "../socket/Tap.js"
import type { Feed } from "./feed.js"
import { backoffOf, toPhase } from "./feed.js"
import type { Plan, PlannedTap } from "./plan.js"
import type { TapItem } from "./tapValue.js"

export const make = (
  { options, target }: PlannedTap,
  plan: Plan
): Effect.Effect<Feed<TapItem>, Tap.TapError, Scope.Scope> =>
  Effect.gen(function* () {
    const tap = yield* Tap.make({
      ...options,
      url: Redacted.value(target.address.url),
      password: target.address.hasPassword ? undefined : options.password,
      name: target.name,
      backoff: backoffOf(plan)
    })
    let batches = 0
    const toBatch = (received: ReadonlyArray<Tap.Received>, observedAt: number): Batch<TapItem> => {
      const events = received.flatMap(({ item }) => (Either.isRight(item) ? [item.right] : []))
      return {
        n: ++batches,
        changes: events.map((event) => Change.added(Tap.keyOf(event), { event })),
        ids: events.map((event) => idOf(target.name, event, observedAt)),
        observedAt,
        redelivered: false,
        commit: Effect.forEach(received, ({ ack }) => ack, { discard: true })
      }
    }
    // with a command each event is committed on its own
    const isSingle = plan.exec !== undefined
    return {
      batches: Stream.mapChunksEffect(tap.events, (chunk) =>
        Effect.gen(function* () {
          const received = Chunk.toReadonlyArray(chunk)
          yield* Effect.forEach(received, ({ item }) =>
            Either.isLeft(item) ? warn(target.name, item.left) : Effect.void
          )
          const now = yield* Clock.currentTimeMillis
          const groups = isSingle ? received.map((one) => [one]) : [received]
          return Chunk.fromIterable(groups.map((group) => toBatch(group, now)))
        })
      ),
      status: Subscribable.map(tap.status, ({ phase }) => ({ phase: toPhase(phase) })),
      // there is nothing to hold back
      approve: Effect.void,
      drain: tap.drain
    }
  }).pipe(Effect.provide(NodeConnector.layer()))

const warn = (name: string, { id, message }: Tap.TapParseFailure): Effect.Effect<void> =>
  Effect.annotateLogs(Effect.logWarning(`${name}: ${message}`), { "periscope.source": name, id })

/** The same for a record that comes again. An identity that comes again cannot be told from another one. */
const idOf = (name: string, event: Tap.TapEvent, observedAt: number): string => {
  if (event.type === "identity") return `${name}:${event.identity.did}:${observedAt}.${event.id}`
  const { action, cid = "", collection, did, rev, rkey } = event.record
  // as JSON: whatever is in a name, two of them are never taken for one
  const digest = createHash("sha256")
    .update(JSON.stringify([did, collection, rkey, rev, action, cid]))
    .digest("hex")
  return `${name}:${rev}:${digest.slice(0, 16)}`
}
