/** Sources that play a script, and what tests note down about them. */
import { Clock, Duration, Effect, HashMap, Logger, Schema } from "effect"
import { Source } from "effect-periscope"

export type Found = Source.Poll<number, number>

export interface Script<E, R> {
  readonly source: Source.Source<number, E, R>
  /** When each poll began, in milliseconds. */
  readonly starts: Array<number>
  /** The state that each poll was given. */
  readonly states: Array<number>
}

/** A source whose n-th poll (from 1) is what the script says. */
export const scripted = <E = never, R = never>(
  play: (n: number, state: number) => Effect.Effect<Found, E, R>,
  options: Partial<Source.CommonOptions<E>> = {}
): Script<E, R> => {
  const starts: Array<number> = []
  const states: Array<number> = []
  const source = Source.make({
    name: "scripted",
    ...options,
    state: Schema.Number,
    item: Schema.Number,
    initial: 0,
    poll: (state) =>
      Effect.flatMap(Clock.currentTimeMillis, (now) => {
        states.push(state)
        return play(starts.push(now), state)
      })
  })
  return { source, starts, states }
}

/** A poll without changes. */
export const nothing = (state: number): Effect.Effect<Found> => Effect.succeed({ changes: [], state })

/** Runs an effect after a time. */
export const after =
  (millis: number) =>
  <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    Effect.zipRight(Effect.sleep(millis), effect)

export class Refused extends Schema.TaggedError<Refused>("test/Refused")("Refused", {
  n: Schema.Number,
  retryAfter: Schema.optionalWith(Schema.DurationFromMillis, { exact: true })
}) {
  override get message(): string {
    return `refused ${this.n}`
  }
}

export class Gone extends Schema.TaggedError<Gone>("test/Gone")("Gone", { isFatal: Schema.Literal(true) }) {}

export const refused = (n: number, retryAfter?: Duration.DurationInput): Refused =>
  new Refused(retryAfter === undefined ? { n } : { n, retryAfter: Duration.decode(retryAfter) })

export interface Line {
  readonly at: number
  readonly level: string
  readonly text: string
  readonly annotations: Record<string, unknown>
}

/** A logger that writes lines to an array. */
export const logTo = (lines: Array<Line>) =>
  Logger.add(
    Logger.make<unknown, void>(({ annotations, date, logLevel, message }) => {
      lines.push({
        at: date.getTime(),
        level: logLevel.label,
        text: String(Array.isArray(message) ? message.join(" ") : message),
        annotations: Object.fromEntries(HashMap.toEntries(annotations))
      })
    })
  )

/** A clock that tells which sleeps are under way. */
export const sleeping = Effect.clockWith((clock) =>
  Effect.sync(() => {
    const under = new Set<{ readonly millis: number }>()
    const sleep = (duration: Duration.Duration) =>
      Effect.acquireUseRelease(
        Effect.sync(() => {
          const entry = { millis: Duration.toMillis(duration) }
          under.add(entry)
          return entry
        }),
        () => clock.sleep(duration),
        (entry) => Effect.sync(() => under.delete(entry))
      )
    const counting: Clock.Clock = Object.assign(Object.create(clock), { sleep })
    return { clock: counting, now: () => Array.from(under, ({ millis }) => millis) }
  })
)
