/** A Tap server for benchmarks, in a process of its own: the double that the tests prove against the official client. */
import { Effect, Exit, Scope } from "effect"
import * as TapServer from "effect-periscope/testing/TapServer"
import { serve } from "./processes.js"

export type Order =
  | { readonly _tag: "fill"; readonly dids: number; readonly bytes: number; readonly events: number }
  | { readonly _tag: "drained" }

export interface Told {
  readonly url: string
  /** From the first connection until the last event was acknowledged. */
  readonly millis: number
  readonly deliveries: number
}

let open: { readonly server: TapServer.TapServer; readonly scope: Scope.CloseableScope; readonly events: number }

/** A new server for each round: nothing of one is left for the next. */
const fill = (dids: number, bytes: number, events: number): Effect.Effect<Told> =>
  Effect.gen(function* () {
    if (open !== undefined) yield* Scope.close(open.scope, Exit.void)
    const scope = yield* Scope.make()
    const server = yield* Scope.extend(TapServer.make({ history: events }), scope)
    for (let n = 0; n < events; n++) {
      const did = `did:plc:${String(n % dids).padStart(24, "a")}`
      // the rest of the frame takes 250 bytes
      server.record({ did, record: { $type: "app.bsky.feed.post", text: "x".repeat(Math.max(0, bytes - 295)) } })
    }
    open = { server, scope, events }
    return { url: server.url, millis: 0, deliveries: 0 }
  })

const drained = Effect.gen(function* () {
  const { events, server } = open
  yield* server.until(() => server.connections() > 0)
  const start = performance.now()
  yield* server.drained
  const millis = performance.now() - start
  if (server.strayAcks.length > 0 || new Set(server.acks.map(({ id }) => id)).size !== events) {
    return yield* Effect.dieMessage("an event was acknowledged that was not sent, or one was not acknowledged")
  }
  return { url: server.url, millis, deliveries: server.deliveries.length }
})

serve((order: Order): Promise<Told> =>
  Effect.runPromise(order._tag === "fill" ? fill(order.dids, order.bytes, order.events) : drained)
)
