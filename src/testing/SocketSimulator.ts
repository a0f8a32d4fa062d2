/**
 * Proves that a client of an event stream with acks keeps its promises: it follows, on a virtual clock, a server that keeps what is
 * not acked and counts ids anew on each connection, through resets, silence, refusals, failing handlers and crashes.
 *
 * The judge sees what the server and the handler see. It checks that no event is acked before its handler has finished, that no
 * ack is one of another connection, that within an entity none is handled before or beside an earlier one, that nothing is handled
 * twice in one life of the process, and that at rest everything has been handled and acked. Everything follows from the seed.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Backoff from "../core/Backoff.js"
import type { Connector } from "../socket/Connector.js"
import * as ReconnectingSocket from "../socket/ReconnectingSocket.js"
import { quietly } from "./quietly.js"
import type { Report } from "./Simulator.js"
import { Violation } from "./Simulator.js"
import type { Task } from "./socketTrial.js"
import { SocketTrial } from "./socketTrial.js"
import type { Outcome } from "./trial.js"
import * as VirtualClock from "./VirtualClock.js"

export type {
  /**
   * @category models
   * @since 0.1.0
   */
  Event,
  /**
   * @category models
   * @since 0.1.0
   */
  Task
} from "./socketTrial.js"

/**
 * What is simulated.
 *
 * - `follow`: the client, for one life of its process [{@link follow}]. It ends only when a handler has failed that is not to be
 *   retried.
 * - `seed`: everything follows from it [1]. `trials`: how many [1000], from `firstTrial` [0].
 * - `crashes`: the most of one trial [4]. `events`: of one trial [30].
 * - `faults`: how probable each fault is at each opportunity [0.05].
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  readonly follow?: ((task: Task) => Effect.Effect<unknown, unknown, Connector>) | undefined
  readonly seed?: number | undefined
  readonly trials?: number | undefined
  readonly firstTrial?: number | undefined
  readonly crashes?: number | undefined
  readonly events?: number | undefined
  readonly faults?: number | undefined
}

/**
 * The client that is simulated by default: `ReconnectingSocket.runForEach`, with the key and the entity of each event. `more`
 * replaces options of it.
 *
 * **Example** See {@link run}.
 *
 * @category clients
 * @since 0.1.0
 */
export const follow =
  (more: Partial<ReconnectingSocket.Options<Event>> = {}): ((task: Task) => Effect.Effect<void, unknown, Connector>) =>
  ({ concurrency, handle, isRetrying, ...task }) =>
    ReconnectingSocket.runForEach(
      { ...task, name: "simulated", key: ({ key }) => key, orderBy: ({ entity }) => entity, ...more },
      handle,
      {
        concurrency,
        handlerRetry: isRetrying ? Backoff.make({ first: "1 second", max: "10 seconds" }) : undefined
      }
    )

type Event = Parameters<Task["handle"]>[0]

const trialOf = (options: Options, trial: number): Effect.Effect<Outcome, Violation> => {
  const { seed = 1 } = options
  const go = (isTraced: boolean): Effect.Effect<Outcome> =>
    Effect.suspend(() => {
      const { run } = new SocketTrial({
        follow: options.follow ?? follow(),
        seed,
        trial,
        isTraced,
        crashes: options.crashes ?? 4,
        events: options.events ?? 30,
        faults: options.faults ?? 0.05
      })
      return VirtualClock.run(run)
    })
  return Effect.flatMap(go(false), (outcome) =>
    outcome.violation === undefined
      ? Effect.succeed(outcome)
      : // the same once more, this time written down
        Effect.flatMap(
          go(true),
          ({ trace, violation = `${outcome.violation}; not the second time: something in it is not of the seed` }) =>
            new Violation({ rule: violation, mode: "socket", seed, trial, trace })
        )
  )
}

/**
 * Runs trials until one breaks a promise. Of the report, `polls` are attempts to connect, `delivered` are starts of handlers, and
 * `redelivered` those of events that an earlier life had handled.
 *
 * **When to use** For `ReconnectingSocket` with options of your own, or for any other client of such a stream.
 *
 * **Example**
 * ```ts
 * import { Effect } from "effect"
 * import { SocketSimulator } from "effect-periscope/testing"
 *
 * const report = await Effect.runPromise(SocketSimulator.run({ trials: 20 }))
 * report.trials // => 20
 *
 * // ids that the server counts anew are no keys
 * const follow = SocketSimulator.follow({ key: ({ id }) => String(id) })
 * const violation = await Effect.runPromise(Effect.flip(SocketSimulator.run({ follow })))
 * violation.rule.endsWith("was acked, and was not handled") // => true
 * ```
 *
 * @category running
 * @since 0.1.0
 */
export const run = (options: Options = {}): Effect.Effect<Report, Violation> =>
  Effect.gen(function* () {
    const sum = { trials: 0, points: 0, crashes: 0, polls: 0, delivered: 0, redelivered: 0 }
    const fired = new Map<string, number>()
    const { firstTrial = 0, trials = 1000 } = options
    for (let trial = firstTrial; trial < firstTrial + trials; trial++) {
      const outcome = yield* trialOf(options, trial)
      sum.trials++
      for (const name of ["points", "crashes", "polls", "delivered", "redelivered"] as const) sum[name] += outcome[name]
      for (const [kind, count] of outcome.fired) fired.set(kind, (fired.get(kind) ?? 0) + count)
    }
    return { ...sum, fired: new Map([...fired].sort()) }
  }).pipe(quietly)
