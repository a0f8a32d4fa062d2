/**
 * What the deliveries of a Tap server are the same by when they come again: a record by what it says, anything else by its number.
 *
 * A number is that of one event as long as its connection lasts, and an identity event is known by it only until it was handled.
 */
import * as Either from "effect/Either"
import type { Connector } from "./Connector.js"
import type { IdentityEvent, TapEvent, TapParseFailure } from "./tapEvent.js"
import * as tapEvent from "./tapEvent.js"

export type Item = Either.Either<TapEvent, TapParseFailure>

export class Deliveries {
  private connections = 0
  private identities = 0
  /** The keys of identity events that are not handled yet, by their numbers on this connection. */
  private readonly open = new Map<number, string>()
  /** The key of each of their deliveries. */
  private readonly keys = new WeakMap<IdentityEvent, string>()

  /** `maxInFlight`: so many can be handled or wait for that at once. */
  constructor(private readonly maxInFlight: number) {}

  /** The same connector; its connections are counted. */
  readonly counting = ({ connect }: Connector["Type"]): Connector["Type"] => ({
    connect: (request, listener) =>
      connect(request, {
        onOpen: (connection) => {
          this.connections++
          this.open.clear()
          listener.onOpen(connection)
        },
        onFrame: listener.onFrame,
        onAlive: listener.onAlive,
        onDrain: listener.onDrain,
        onClose: listener.onClose
      })
  })

  readonly keyOf = (item: Item): string | undefined => {
    if (Either.isLeft(item)) return item.left.id === undefined ? undefined : `${this.connections} ${item.left.id}`
    const event = item.right
    return event.type === "record" ? tapEvent.sameness(event) : this.keyOfIdentity(event)
  }

  /** What is remembered as done are keys: so each identity event has one of its own, which no later one gets. */
  private keyOfIdentity(event: IdentityEvent): string {
    const known = this.open.get(event.id)
    const key = known ?? `identity ${++this.identities}`
    if (known === undefined) {
      // one that was released may never come again
      if (this.open.size >= this.maxInFlight) this.open.delete(this.open.keys().next().value!)
      this.open.set(event.id, key)
    }
    this.keys.set(event, key)
    return key
  }

  /** It was handled: what comes under its number from now on is another event. */
  handled(event: IdentityEvent): void {
    if (this.open.get(event.id) === this.keys.get(event)) this.open.delete(event.id)
  }
}
