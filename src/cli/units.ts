/**
 * Durations and sizes as people write them on a command line.
 */
import * as Either from "effect/Either"

const unitMillis: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 }

/** The longest wait that the timers of Node can make. */
export const maxMillis: number = 24 * unitMillis["d"]!

const durationUpTo =
  (days: number, example: string) =>
  (text: string): Either.Either<number, string> => {
    const match = /^(\d{1,12}(?:\.\d{1,9})?)(ms|s|m|h|d)$/.exec(text)
    if (match === null) return Either.left(`is not a duration; write one such as ${example}`)
    const millis = Number(match[1]) * unitMillis[match[2]!]!
    if (millis < 1) return Either.left("is too short; write 1ms or more")
    return millis > days * unitMillis["d"]! ? Either.left(`is too long; write ${days}d or less`) : Either.right(millis)
  }

/** Milliseconds of `500ms`, `30s`, `5m`, `1h`, `1d`; else what is wrong with it. */
export const duration: (text: string) => Either.Either<number, string> = durationUpTo(24, "500ms, 30s, 5m or 1h")

/** How old something is: no timer has to wait for it, so it may be longer. */
export const age: (text: string) => Either.Either<number, string> = durationUpTo(36_500, "30s, 5m, 1h or 7d")

/** A number from 0 to 1; else what is wrong with it. */
export const fraction = (text: string): Either.Either<number, string> =>
  /^(?:0|1|0?\.\d+|0\.\d+|1\.0+)$/.test(text)
    ? Either.right(Number(text))
    : Either.left("is not a fraction; write a number from 0 to 1, such as 0.1")

const unitBytes: Readonly<Record<string, number>> = {
  "": 1,
  b: 1,
  kb: 1000,
  mb: 1000 ** 2,
  gb: 1000 ** 3,
  kib: 1024,
  mib: 1024 ** 2,
  gib: 1024 ** 3
}

/** Bytes of `16MiB`, `500kB` or `1048576`; else what is wrong with it. */
export const size = (text: string): Either.Either<number, string> => {
  const match = /^(\d{1,15}(?:\.\d{1,9})?)([a-z]{0,3})$/i.exec(text)
  const unit = unitBytes[match?.[2]?.toLowerCase() ?? "?"]
  if (match === null || unit === undefined) {
    return Either.left("is not a size; write one such as 16MiB, 500kB or 1048576")
  }
  const bytes = Math.floor(Number(match[1]) * unit)
  return bytes >= 1 && bytes <= 2 ** 31
    ? Either.right(bytes)
    : Either.left("is not a size that can be used; write one from 1 byte to 2GiB")
}

/** A duration for people: `350 ms`, `12 s`, `3 min`, `2 h 5 min`. */
export const showMillis = (millis: number): string => {
  if (millis < 1000) return `${Math.round(millis)} ms`
  const seconds = millis < 10_000 ? Math.round(millis / 100) / 10 : Math.round(millis / 1000)
  if (seconds < 120) return `${seconds} s`
  const minutes = Math.round(seconds / 60)
  return minutes < 120 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`
}

/** A count for people: `12,000`. */
export const showCount = (count: number): string => count.toLocaleString("en-US")

/** A size for people: `34 B`, `1.2 kB`, `16 MB`. */
export const showBytes = (bytes: number): string => {
  if (bytes < 1000) return `${bytes} B`
  const [unit, scaled] = bytes < 1e6 ? ["kB", bytes / 1e3] : bytes < 1e9 ? ["MB", bytes / 1e6] : ["GB", bytes / 1e9]
  return `${scaled < 10 ? Math.round(scaled * 10) / 10 : Math.round(scaled)} ${unit}`
}
