/**
 * Checks options: what makes no sense dies with a sentence that names the option and the value.
 */
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"

const show = (input: unknown): string =>
  Duration.isDuration(input)
    ? Duration.format(input)
    : typeof input === "string"
      ? JSON.stringify(input)
      : String(input)

/** Milliseconds of a duration above zero; `Duration.decode` turns NaN and negative numbers into zero. */
export const positiveMillis = (where: string, name: string, input: Duration.DurationInput): number => {
  const millis = Duration.toMillis(Option.getOrElse(Duration.decodeUnknown(input), () => Duration.zero))
  if (millis > 0) return millis
  throw new Error(`${where}: \`${name}\` is ${show(input)}; it must be a duration above zero, such as "30 seconds".`)
}

/** The same, not infinite. */
export const finiteMillis = (where: string, name: string, input: Duration.DurationInput): number => {
  const millis = positiveMillis(where, name, input)
  if (millis < Infinity) return millis
  throw new Error(`${where}: \`${name}\` is infinite; it must be a finite duration above zero, such as "30 seconds".`)
}

export const wholeNumber = (where: string, name: string, value: number): number => {
  if (value === Infinity || (Number.isInteger(value) && value >= 1)) return value
  throw new Error(`${where}: \`${name}\` is ${value}; it must be a whole number of 1 or more.`)
}

// each worker is a fiber
const mostWorkers = 100_000

/** How many work at the same time. */
export const concurrencyOf = (where: string, value: number | undefined): number => {
  const count = value ?? 1
  if (Number.isInteger(count) && count >= 1 && count <= mostWorkers) return count
  throw new Error(`${where}: \`concurrency\` is ${count}; it must be a whole number from 1 to ${mostWorkers}.`)
}

export const positiveNumber = (where: string, name: string, value: number): number => {
  if (value > 0) return value
  throw new Error(`${where}: \`${name}\` is ${value}; it must be above 0.`)
}
