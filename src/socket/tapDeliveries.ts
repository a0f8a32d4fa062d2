/**
 * What the deliveries of a Tap server are the same by when they come again: a record by what it says, anything else by its number.
 *
 * A number is that of one event only as long as its connection lasts.
 */
import * as Either from "effect/Either"
import type { Connector } from "./Connector.js"
import type { TapEvent, TapParseFailure } from "./tapEvent.js"
import * as tapEvent from "./tapEvent.js"

export type Item = Either.Either<TapEvent, TapParseFailure>

export class Deliveries {
  private connections = 0

  /** The same connector; its connections are counted. */
  readonly counting = ({ connect }: Connector["Type"]): Connector["Type"] => ({
    connect: (request, listener) =>
      connect(request, {
        onOpen: (connection) => {
          this.connections++
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
    return tapEvent.sameness(item.right) ?? `${this.connections} ${item.right.id}`
  }
}
