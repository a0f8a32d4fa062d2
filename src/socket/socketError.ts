/**
 * Why a connection was lost or never came about, said once, where it happens.
 */
import * as Cause from "effect/Cause"
import * as Predicate from "effect/Predicate"
import * as Schema from "effect/Schema"
import type { Closed, ConnectError } from "./Connector.js"

/**
 * Why a connection ended or could not be made. It is what status and `fatal` show; one that is fatal, or after which no more
 * reconnects are left, ends the stream.
 *
 * - `Unreachable`: no connection: name, address, TLS, or the network.
 * - `Refused`: the upgrade was answered with another `status` than 101. `retryAfter` is what the server asks for.
 * - `OpenTimeout`: not open within `openTimeout`, url and headers included.
 * - `Closed`: it was open and ended, with a close `code`; 1006 if it broke off.
 * - `Idle`: nothing came within `idleTimeout`, not even an answer to a ping; or the peer was seen to read nothing of what was sent
 *   for that long.
 * - `Overflow`: the consumer fell behind, over a WebSocket that cannot pause.
 * - `Request`: the url or the headers cannot be asked for, or the effect that gives them failed.
 * - `Decode`: `decode` threw. The message names the kind of what was thrown alone, as its own message may quote the frame.
 *
 * **Details** `isRetryable` says whether the same may work later without anybody changing something. The message names the source
 * and what to do; it holds no query, user info, header or frame, and neither does any other field.
 *
 * **Example**
 * ```ts
 * import { ReconnectingSocket } from "effect-periscope/socket"
 *
 * const refused = new ReconnectingSocket.SocketError({ reason: "Refused", source: "feed", message: "feed …", status: 403 })
 *
 * refused.isRetryable // => false
 * ```
 *
 * @category errors
 * @since 0.1.0
 */
export class SocketError extends Schema.TaggedError<SocketError>("effect-periscope/SocketError")("SocketError", {
  reason: Schema.Literal("Unreachable", "Refused", "OpenTimeout", "Closed", "Idle", "Overflow", "Request", "Decode"),
  source: Schema.String,
  message: Schema.String,
  /** Of the answer to the upgrade. */
  status: Schema.optional(Schema.Number),
  /** The close code. */
  code: Schema.optional(Schema.Number),
  /** How long the server asks to wait. */
  retryAfter: Schema.optional(Schema.Duration)
}) {
  /** Whether the same may work later without anybody changing something. */
  get isRetryable(): boolean {
    return !isFatal(this)
  }
}

export type Reason = SocketError["reason"]

/** Frames that this side, or the peer, cannot work with: the same would happen again. */
const fatalCodes: ReadonlySet<number> = new Set([1002, 1003, 1007, 1009])
const fatalStatuses: ReadonlySet<number> = new Set([400, 401, 403])

/**
 * Whether an error ends a socket, unless its `fatal` option says otherwise: close codes 1002, 1003, 1007 and 1009, upgrades that
 * were refused with 400, 401 or 403, and frames that cannot be read.
 *
 * **Example**
 * ```ts
 * import { ReconnectingSocket } from "effect-periscope/socket"
 *
 * // credentials that a rotation mends
 * const fatal = (error: ReconnectingSocket.SocketError) => error.status !== 401 && ReconnectingSocket.isFatal(error)
 * ```
 *
 * @category defaults
 * @since 0.1.0
 */
export const isFatal = ({ code, reason, status }: Pick<SocketError, "code" | "reason" | "status">): boolean =>
  reason === "Decode" ||
  (reason === "Closed" && fatalCodes.has(code!)) ||
  (reason === "Refused" && fatalStatuses.has(status!))

const names: ReadonlyMap<number, string> = new Map([
  [1000, "it was done"],
  [1001, "it is going away"],
  [1002, "a protocol error"],
  [1003, "a kind of data that it cannot accept"],
  [1005, "no reason given"],
  [1006, "the connection broke off"],
  [1007, "text that is not UTF-8"],
  [1008, "against its policy"],
  [1009, "a frame that is too large; raise `maxFrameBytes` if it is this side's bound"],
  [1010, "an extension is missing"],
  [1011, "an error of the server"],
  [1012, "it restarts"],
  [1013, "try again later"],
  [1014, "a bad answer of a gateway"]
])

export const ofClosed = (source: string, { code, problem }: Closed): SocketError => {
  const name = names.get(code)
  // the peer's own words may hold anything
  const why = [name, problem].filter((part) => part !== undefined).join(", ")
  return new SocketError({
    reason: "Closed",
    source,
    code,
    message: `${source}: the connection was closed with ${code}${why === "" ? "" : ` (${why})`}.`
  })
}

export const ofConnect = (source: string, { message, reason, retryAfter, status }: ConnectError): SocketError =>
  new SocketError({
    reason,
    source,
    message: `${source}: ${message}${status === 401 || status === 403 ? " Look at the credentials." : ""}`,
    ...(status === undefined ? {} : { status }),
    ...(retryAfter === undefined ? {} : { retryAfter })
  })

export const of = (source: string, reason: Reason, sentence: string): SocketError =>
  new SocketError({ reason, source, message: `${source}: ${sentence}` })

/** What `decode` threw, without its message, which may quote the frame: that of `JSON.parse` does. */
export const kindOf = (thrown: unknown): string => {
  if (!Predicate.isObject(thrown)) return `a ${typeof thrown}`
  if (Predicate.hasProperty(thrown, "_tag")) return String(thrown._tag)
  return thrown instanceof Error ? thrown.name : "an object"
}

/** Something ended by an interruption that was not the consumer's own: it joined a fiber that was, for example. */
class InterruptedWithin {
  readonly _tag = "InterruptedWithin"
  readonly message = "it was interrupted from within"
}

/** A cause that its own interruption never leads to: where it is one of interruption, that came from within, and is a defect. */
export const fromWithin = <E>(cause: Cause.Cause<E>): Cause.Cause<E> =>
  Cause.isInterruptedOnly(cause) ? Cause.die(new InterruptedWithin()) : cause
