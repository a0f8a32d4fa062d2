/**
 * The options of a socket, checked and with their defaults.
 */
import * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Redacted from "effect/Redacted"
import type * as Schedule from "effect/Schedule"
import * as Backoff from "../core/Backoff.js"
import type { Frame } from "./Connector.js"
import type { SocketError } from "./socketError.js"
import { isFatal } from "./socketError.js"

/** Headers of the upgrade. Redacted ones are credentials; the others are kept out of messages too. */
export type HeadersInput = Readonly<Record<string, string | Redacted.Redacted>>

/** Where to connect: redacted, where the address holds a credential in its path or query. */
export type UrlInput = string | URL | Redacted.Redacted

/**
 * How to connect, what is received and how much of it is held.
 *
 * - `url`: ws or wss. User info becomes basic authorization. An effect runs for each attempt, as that of `headers`; one that
 *   fails is a failed attempt.
 * - `name`: names the socket in logs and metrics [the url without query, fragment and user info; `"websocket"` where the url is
 *   an effect or redacted].
 * - `headers`: of the upgrade. `protocols`: subprotocols that this side speaks.
 * - `decode`: makes an item of a frame, at once and without effects. What can fail belongs into the item, as an `Either`.
 * - `ack`: the frame that acknowledges an item; `undefined`: this item needs none. Without the option nothing is acknowledged:
 *   at most once.
 * - `key`: recognises an item that comes again, also over another connection; `undefined`: it is never recognised. An id that
 *   the server counts anew is no key. `isRemembered`: whether an item that comes again behind its end is recognised too, or handed
 *   out again [every one is recognised].
 * - `orderBy`: what is handled in order where a handler runs `concurrency` at once [every item may be handled at any time].
 * - `onDecodeFailure`: what happens to a frame for which one of these functions threw: `"stop"` ends with `Decode`; `"skip"` leaves
 *   it without an ack, counts and logs it [`"stop"`]. What `ack` throws behind a handler is a defect of the handler.
 * - `backoff`: the waits between attempts [1 second, doubling to 1 minute]; a longer `Retry-After` wins, up to `maxRetryAfter`
 *   [1 hour]. When the schedule ends, so does the stream. It begins anew after a connection that was open for `healthyAfter`
 *   [30 seconds].
 * - `maxReconnectAttempts`: reconnects in a row, counted anew after a healthy connection [no bound].
 * - `fatal`: which errors end the stream [{@link isFatal}].
 * - `openTimeout`: from the start of an attempt to an open connection [10 seconds]. `closeTimeout`: for the peer's answer when the
 *   consumer ends [5 seconds].
 * - `pingInterval`: below `idleTimeout` [15 seconds, or a third of a shorter `idleTimeout`]. `idleTimeout`: a connection on which
 *   nothing came for so long is dead, and one whose peer was seen to read nothing of too many acks for so long [45 seconds, where
 *   pings are possible; else never]. Both may be infinite.
 * - `maxInFlight`: items received and not finished; then reading is paused [1000]. `maxInFlightBytes`: of their frames
 *   [16 MiB]. `maxFrameBytes`: of one frame [16 MiB]. `maxUnsentBytes`: acks that the peer does not read [1 MiB].
 * - `maxPerOrder`: of those, how many of one `orderBy` may wait behind the one that is handled, or, in `received`, be in flight
 *   behind the first one; what is beyond is left without an ack to come again, so that one slow entity does not stop all others,
 *   while of as many entities as `maxInFlight` at most. Only for a server that sends again, in order and within the connection, what
 *   was not acked in time, and with acks that are text [no bound]. It does nothing where one item is handled at a time.
 * - `windowSize`: how many keys of finished items are remembered, at least [10,000].
 */
export interface Options<A, R = never> {
  readonly url: UrlInput | Effect.Effect<UrlInput, unknown, R>
  readonly name?: string | undefined
  readonly headers?: HeadersInput | Effect.Effect<HeadersInput, unknown, R> | undefined
  readonly protocols?: ReadonlyArray<string> | undefined
  readonly decode: (frame: Frame) => A
  readonly ack?: ((item: A) => Frame | undefined) | undefined
  readonly key?: ((item: A) => string | undefined) | undefined
  readonly isRemembered?: ((item: A) => boolean) | undefined
  readonly orderBy?: ((item: A) => string | undefined) | undefined
  readonly onDecodeFailure?: "stop" | "skip" | undefined
  readonly backoff?: Schedule.Schedule<unknown, SocketError, R> | undefined
  readonly maxRetryAfter?: Duration.DurationInput | undefined
  readonly healthyAfter?: Duration.DurationInput | undefined
  readonly maxReconnectAttempts?: number | undefined
  readonly fatal?: ((error: SocketError) => boolean) | undefined
  readonly openTimeout?: Duration.DurationInput | undefined
  readonly closeTimeout?: Duration.DurationInput | undefined
  readonly pingInterval?: Duration.DurationInput | undefined
  readonly idleTimeout?: Duration.DurationInput | undefined
  readonly maxInFlight?: number | undefined
  readonly maxInFlightBytes?: number | undefined
  readonly maxFrameBytes?: number | undefined
  readonly maxUnsentBytes?: number | undefined
  readonly maxPerOrder?: number | undefined
  readonly windowSize?: number | undefined
}

/** Durations in milliseconds. */
export interface Settings {
  readonly openTimeout: number
  readonly closeTimeout: number
  readonly pingInterval: number
  /** `undefined`: 45 seconds where pings are possible. */
  readonly idleTimeout: number | undefined
  readonly healthyAfter: number
  readonly maxRetryAfter: Duration.Duration
  readonly maxReconnectAttempts: number
  readonly maxInFlight: number
  readonly maxInFlightBytes: number
  readonly maxFrameBytes: number
  readonly maxUnsentBytes: number
  readonly maxPerOrder: number | undefined
  readonly windowSize: number
  readonly skipsUndecoded: boolean
  readonly fatal: (error: SocketError) => boolean
}

export const defaultIdleTimeout = 45_000
const defaultPingInterval = 15_000

export const defaultBackoff = (maxRetryAfter: Duration.Duration): Schedule.Schedule<unknown, SocketError> =>
  Backoff.make<SocketError>({ first: "1 second", max: "1 minute", maxRetryAfter })

const refuse = (sentence: string): never => {
  throw new Error(`ReconnectingSocket: ${sentence}`)
}

const millis = (
  option: string,
  input: Duration.DurationInput | undefined,
  fallback: Duration.DurationInput,
  mayBeInfinite = false
): number => {
  const given = input ?? fallback
  const duration = Option.getOrElse(Duration.decodeUnknown(given), () => Duration.zero)
  const value = Duration.toMillis(duration)
  if (value > 0 && (mayBeInfinite || Duration.isFinite(duration))) return value
  const shown = Duration.isDuration(given) ? Duration.format(given) : String(given)
  return refuse(
    `\`${option}\` is ${shown}; it must be a ${mayBeInfinite ? "" : "finite "}duration above zero, such as "30 seconds".`
  )
}

const whole = (option: string, value: number | undefined, fallback: number, least = 1): number => {
  const given = value ?? fallback
  if (given === Infinity || (Number.isSafeInteger(given) && given >= least)) return given
  return refuse(`\`${option}\` is ${given}; it must be a whole number of ${least} or more.`)
}

const liveness = <A, R>(options: Options<A, R>): Pick<Settings, "idleTimeout" | "pingInterval"> => {
  const idleTimeout =
    options.idleTimeout === undefined ? undefined : millis("idleTimeout", options.idleTimeout, Infinity, true)
  const idle = idleTimeout ?? defaultIdleTimeout
  const pingInterval = millis("pingInterval", options.pingInterval, Math.min(defaultPingInterval, idle / 3), true)
  if (pingInterval !== Infinity && pingInterval >= idle) {
    const [ping, most] = [pingInterval, idle].map((value) => Duration.format(Duration.millis(value)))
    return refuse(
      `\`pingInterval\` is ${ping}, and \`idleTimeout\` ${most}; a ping must come before, or every quiet connection is taken for dead.`
    )
  }
  return { idleTimeout, pingInterval }
}

export const settingsOf = <A, R>(options: Options<A, R>): Settings => {
  const { onDecodeFailure } = options
  if (onDecodeFailure !== undefined && onDecodeFailure !== "stop" && onDecodeFailure !== "skip") {
    return refuse(`\`onDecodeFailure\` is ${JSON.stringify(onDecodeFailure)}; it must be "stop" or "skip".`)
  }
  return {
    openTimeout: millis("openTimeout", options.openTimeout, "10 seconds"),
    closeTimeout: millis("closeTimeout", options.closeTimeout, "5 seconds"),
    ...liveness(options),
    healthyAfter: millis("healthyAfter", options.healthyAfter, "30 seconds"),
    maxRetryAfter: Duration.millis(millis("maxRetryAfter", options.maxRetryAfter, Backoff.defaultMaxRetryAfter)),
    maxReconnectAttempts: whole("maxReconnectAttempts", options.maxReconnectAttempts, Infinity, 0),
    maxInFlight: whole("maxInFlight", options.maxInFlight, 1000),
    maxInFlightBytes: whole("maxInFlightBytes", options.maxInFlightBytes, 16 * 1024 * 1024),
    // what `ws` can count
    maxFrameBytes: Math.min(whole("maxFrameBytes", options.maxFrameBytes, 16 * 1024 * 1024), 2 ** 31 - 1),
    maxUnsentBytes: whole("maxUnsentBytes", options.maxUnsentBytes, 1024 * 1024),
    maxPerOrder: options.maxPerOrder === undefined ? undefined : whole("maxPerOrder", options.maxPerOrder, 0, 0),
    windowSize: whole("windowSize", options.windowSize, 10_000, 0),
    skipsUndecoded: onDecodeFailure === "skip",
    fatal: options.fatal ?? isFatal
  }
}
