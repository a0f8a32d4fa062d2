/**
 * How long entries have been waiting behind the oldest open transaction of a PostgreSQL server. Pure, but for what it tells.
 *
 * Entries are read in the order of their transactions, so one that is open holds back all that began after it.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import { logHorizonAge } from "../core/WatchMetrics.js"

/** What is seen at one moment: the oldest open transaction, and that of the newest committed entry. */
export interface Seen {
  readonly horizon: bigint
  readonly newest: bigint | undefined
}

/** An entry that is held back, by its transaction, since it was seen first. */
export interface Waiting {
  readonly xid: bigint
  readonly since: number
}

/** The entry that is known to wait, at `now`. */
export const waiting = (before: Waiting | undefined, { horizon, newest }: Seen, now: number): Waiting | undefined =>
  newest === undefined || newest < horizon
    ? undefined
    : before !== undefined && before.xid >= horizon
      ? before
      : { xid: newest, since: now }

const longestSilence = 60_000

/** Follows the horizon of a log: sets the metric, and warns once for each time that entries wait for long. */
export const follow = (
  log: string
): { readonly look: (seen: Seen) => Effect.Effect<void>; readonly forget: Effect.Effect<void> } => {
  const age = Metric.tagged(logHorizonAge, "log", log)
  let current: Waiting | undefined
  let isWarned = false
  const look = (seen: Seen): Effect.Effect<void> =>
    Effect.flatMap(Clock.currentTimeMillis, (now) => {
      current = waiting(current, seen, now)
      const millis = current === undefined ? 0 : now - current.since
      const isLong = millis > longestSilence
      const isNews = isLong && !isWarned
      isWarned = isLong
      const told = Metric.set(age, millis / 1000)
      return isNews ? Effect.zipRight(told, Effect.logWarning(sentence(log, seen.horizon, millis))) : told
    })
  return { look, forget: Metric.set(age, 0) }
}

const sentence = (log: string, horizon: bigint, millis: number): string =>
  `${log}: entries have been waiting for ${Math.round(millis / 1000)} s behind a writing transaction that is open, number ${horizon}, in any database of the server; find it with SELECT pid, datname, xact_start FROM pg_stat_activity WHERE backend_xid IS NOT NULL ORDER BY xact_start, or in pg_prepared_xacts, and end it.`
