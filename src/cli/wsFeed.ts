/**
 * Follows a WebSocket for the command line: each frame is an Added. There are no acks, so a frame comes once at most.
 */
import * as Chunk from "effect/Chunk"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Stream from "effect/Stream"
import * as Subscribable from "effect/Subscribable"
import * as Change from "../core/Change.js"
import type { Batch } from "../core/Watcher.js"
import * as NodeConnector from "../socket/NodeConnector.js"
import * as ReconnectingSocket from "../socket/ReconnectingSocket.js"
import type { Feed } from "./feed.js"
import { backoffOf, toPhase } from "./feed.js"
import type { Plan, PlannedWs } from "./plan.js"
import type { WsItem } from "./wsValue.js"

const headersOf = ({ bearerToken, headers }: PlannedWs): ReconnectingSocket.HeadersInput => ({
  "user-agent": "effect-periscope",
  ...headers,
  ...(bearerToken === undefined ? {} : { authorization: Redacted.make(`Bearer ${Redacted.value(bearerToken)}`) })
})

export const make = (planned: PlannedWs, plan: Plan): Effect.Effect<Feed<WsItem>> =>
  Effect.gen(function* () {
    const { name, url } = planned.target
    const socket = yield* ReconnectingSocket.make<WsItem>({
      url,
      name,
      headers: headersOf(planned),
      decode: (frame) => ({ frame }),
      backoff: backoffOf(plan),
      maxFrameBytes: plan.maxBodyBytes
    })
    const started = yield* Clock.currentTimeMillis
    let batches = 0
    let frames = 0
    const toBatch = (items: ReadonlyArray<WsItem>, observedAt: number): Batch<WsItem> => {
      const changes = items.map((item) => Change.added(String(++frames), item))
      return {
        n: ++batches,
        changes,
        // the counter begins anew with each run
        ids: changes.map(({ key }) => `${name}:${started}:${key}`),
        observedAt,
        redelivered: false,
        commit: Effect.void
      }
    }
    // with a command each frame is printed when its own is done
    const isSingle = plan.exec !== undefined
    return {
      batches: Stream.mapChunksEffect(socket.received, (chunk) =>
        Effect.map(Clock.currentTimeMillis, (now) => {
          const items = Chunk.toReadonlyArray(chunk).map(({ item }) => item)
          const groups = isSingle ? items.map((item) => [item]) : [items]
          return Chunk.fromIterable(groups.map((group) => toBatch(group, now)))
        })
      ),
      status: Subscribable.map(socket.status, ({ phase }) => ({ phase: toPhase(phase) })),
      // there is nothing to hold back
      approve: Effect.void,
      drain: socket.drain
    }
  }).pipe(Effect.provide(NodeConnector.layer()))
