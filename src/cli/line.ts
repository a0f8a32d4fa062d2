/**
 * A change as one line of NDJSON: the contract that scripts depend on.
 */
import * as Option from "effect/Option"
import type * as Change from "../core/Change.js"
import type { Value } from "./value.js"
import * as value from "./value.js"

/** A change with what its line says beside it. */
export interface Found {
  readonly id: string
  readonly source: string
  readonly observedAt: number
  readonly redelivered: boolean
  readonly change: Change.Change<Value>
}

/** The line, without its end. */
export const encode = ({ id, source, observedAt, redelivered, change }: Found): string =>
  value.object([
    ["id", JSON.stringify(id)],
    ["type", JSON.stringify(change._tag)],
    ["source", JSON.stringify(source)],
    ["key", JSON.stringify(change.key)],
    ["value", change._tag === "Removed" ? undefined : value.encode(change.value)],
    [
      "previous",
      change._tag === "Added" ? undefined : Option.getOrUndefined(Option.map(change.previous, value.encode))
    ],
    ["observedAt", JSON.stringify(new Date(observedAt).toISOString())],
    ["redelivered", redelivered ? "true" : undefined]
  ])
