/**
 * Keeps a socket connected: attempts, liveness, and the waits between two connections.
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import type * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import type * as Schedule from "effect/Schedule"
import * as ScheduleDecision from "effect/ScheduleDecision"
import * as ScheduleIntervals from "effect/ScheduleIntervals"
import * as Scope from "effect/Scope"
import * as Backoff from "../core/Backoff.js"
import * as WatchMetrics from "../core/WatchMetrics.js"
import { describe } from "../core/WatchStatus.js"
import type { Connector } from "./Connector.js"
import type { Link } from "./link.js"
import type { SocketError } from "./socketError.js"
import * as socketError from "./socketError.js"
import type { HeadersInput, Settings, UrlInput } from "./socketOptions.js"
import { defaultIdleTimeout } from "./socketOptions.js"
import type { SocketPhase } from "./socketStatus.js"
import type { Target } from "./target.js"
import * as target from "./target.js"

/** What is connected. */
export interface Socket {
  readonly name: string
  readonly settings: Settings
  readonly makeLink: () => Link
  readonly closed: (link: Link) => void
  readonly drained: (link: Link) => void
  readonly monotonic: () => number
  readonly show: (phase: SocketPhase) => void
  readonly warn: (message: string, annotations: Readonly<Record<string, unknown>>) => Effect.Effect<void>
}

export interface Reconnecting {
  /** Connects again and again, until an error is fatal or too many attempts have failed. */
  readonly run: (socket: Socket) => Effect.Effect<never, SocketError>
}

export interface Means {
  readonly connector: Context.Tag.Service<Connector>
  readonly url: Effect.Effect<UrlInput, unknown>
  readonly headers: Effect.Effect<HeadersInput, unknown>
  readonly protocols: ReadonlyArray<string>
  readonly backoff: Schedule.Schedule<unknown, SocketError>
}

export const make = (means: Means): Reconnecting => ({
  run: (socket) =>
    Effect.gen(function* () {
      const { fatal, healthyAfter, maxReconnectAttempts, maxRetryAfter } = socket.settings
      const { backoff } = means
      let state: unknown = backoff.initial
      let attempt = 0
      while (true) {
        socket.show({ _tag: "Connecting", attempt })
        const link = socket.makeLink()
        const error = yield* connection(means, socket, link)
        const now = yield* Clock.currentTimeMillis
        if (link.connection !== undefined && socket.monotonic() - link.openSince >= healthyAfter) {
          state = backoff.initial
          attempt = 0
        }
        if (fatal(error) || attempt >= maxReconnectAttempts) return yield* Effect.fail(error)
        const [next, , decision] = yield* backoff.step(now, error, state)
        if (ScheduleDecision.isDone(decision)) return yield* Effect.fail(error)
        state = next
        attempt++
        const asked = Duration.toMillis(Backoff.retryAfter(error, maxRetryAfter))
        const wait = Math.ceil(Math.max(0, ScheduleIntervals.start(decision.intervals) - now, asked))
        WatchMetrics.update(WatchMetrics.socketReconnects[error.reason], 1)
        socket.show({ _tag: "Waiting", attempt, until: now + wait, error })
        const message = error.message.slice(`${socket.name}: `.length)
        yield* socket.warn(
          `${message} Reconnecting in ${Duration.format(Duration.millis(wait))} (attempt ${attempt}).`,
          {
            attempt,
            waitMillis: wait
          }
        )
        yield* Effect.sleep(wait)
      }
    })
})

/** One connection from its attempt to its end: why it ended. */
const connection = (means: Means, socket: Socket, link: Link): Effect.Effect<SocketError> =>
  Effect.acquireUseRelease(
    Scope.make(),
    (scope) => Effect.zipRight(Scope.extend(opening(means, socket, link), scope), living(socket, link)),
    // it may be open already where the attempt was not known to have succeeded
    (scope) =>
      link
        .closing(socket.settings.closeTimeout)
        .pipe(Effect.zipRight(Effect.sync(() => socket.closed(link))), Effect.zipRight(Scope.close(scope, Exit.void)))
  ).pipe(
    // not reached when the consumer itself is interrupted
    Effect.catchAllCause((cause) =>
      Effect.succeed(
        Option.getOrElse(Cause.failureOption(cause), () =>
          socketError.of(
            socket.name,
            "Unreachable",
            `the connector failed: ${describe(socketError.fromWithin(cause as Cause.Cause<never>))}.`
          )
        )
      )
    )
  )

/** Succeeds once the link is open. */
const opening = (means: Means, socket: Socket, link: Link): Effect.Effect<void, SocketError, Scope.Scope> =>
  Effect.suspend(() => {
    const { maxFrameBytes, openTimeout } = socket.settings
    const connecting = Effect.flatMap(targetOf(means, socket.name), ({ attributes, headers, url }) =>
      means.connector.connect({ url, headers, protocols: means.protocols, maxFrameBytes }, link).pipe(
        Effect.mapError((error) => socketError.ofConnect(socket.name, error)),
        Effect.withSpan("ReconnectingSocket.connect", {
          kind: "client",
          captureStackTrace: false,
          attributes: { "periscope.source": socket.name, ...attributes }
        })
      )
    )
    return Effect.timeoutFail(Effect.disconnect(connecting), {
      duration: openTimeout,
      onTimeout: () =>
        socketError.of(
          socket.name,
          "OpenTimeout",
          `not open within ${Duration.format(Duration.millis(openTimeout))}; raise \`openTimeout\` if that is normal.`
        )
    })
  })

const targetOf = (means: Means, name: string): Effect.Effect<Target, SocketError> =>
  Effect.flatMap(
    // not reached when the attempt itself is interrupted
    Effect.catchAllCause(Effect.all([means.url, means.headers]), (cause) => {
      const why = describe(socketError.fromWithin(cause))
      return Effect.fail(socketError.of(name, "Request", `its url or headers could not be made: ${why}`))
    }),
    ([url, headers]) =>
      Either.mapLeft(target.make(url, headers), (sentence) => socketError.of(name, "Request", sentence))
  )

/** Pings, and notices that it is dead. */
const living = (socket: Socket, link: Link): Effect.Effect<SocketError> =>
  Effect.gen(function* () {
    const { name, settings } = socket
    const clock = yield* Clock.clockWith(Effect.succeed)
    const connection = link.connection!
    const pingInterval = connection.canPing ? settings.pingInterval : Infinity
    const idleTimeout = settings.idleTimeout ?? (connection.canPing ? defaultIdleTimeout : Infinity)
    let pingAt = link.openSince + pingInterval
    while (link.ended === undefined) {
      const now = socket.monotonic()
      // nobody tells that it has read some, only that it has read all
      if (link.backlogSince !== undefined) socket.drained(link)
      if (link.backlogSince !== undefined && now - link.backlogSince >= idleTimeout) {
        link.end(socketError.of(name, "Idle", `the peer has read nothing for ${show(idleTimeout)}.`))
        break
      }
      if (!link.isPaused && now - link.lastAlive >= idleTimeout) {
        link.end(socketError.of(name, "Idle", `nothing came for ${show(idleTimeout)}.`))
        break
      }
      if (now >= pingAt) {
        connection.ping()
        pingAt = now + pingInterval
      }
      const since = link.isPaused ? (link.backlogSince ?? Infinity) : link.lastAlive
      yield* link.signalled(clock, Math.min(pingAt - now, since + idleTimeout - now, idleTimeout))
    }
    return link.ended!
  })

const show = (millis: number): string => Duration.format(Duration.millis(millis))
