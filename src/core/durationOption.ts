/**
 * Reads duration options: what `Duration.decode` silently turns into zero (NaN, negative numbers) is an error here.
 */
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"

const show = (input: unknown): string =>
  Duration.isDuration(input) ? Duration.format(input) : typeof input === "bigint" ? `${input}n` : JSON.stringify(input)

/** A finite duration above zero, or an error naming the option and the value. */
export const positive = (where: string, name: string, input: Duration.DurationInput): Duration.Duration => {
  const decoded = Option.getOrElse(Duration.decodeUnknown(input), () => Duration.zero)
  if (!Duration.isFinite(decoded) || Duration.toMillis(decoded) <= 0) {
    throw new Error(
      `${where}: \`${name}\` is ${typeof input === "number" ? input : show(input)}; it must be a finite duration above zero, such as "30 seconds".`
    )
  }
  return decoded
}

const isZero = (input: unknown): boolean =>
  Array.isArray(input)
    ? input.every((part) => part === 0)
    : typeof input === "string"
      ? /^0+(\.0+)?\s/.test(input)
      : input === 0 || input === 0n || (Duration.isDuration(input) && Duration.equals(input, Duration.zero))

/** A duration of zero or more, finite, or an error naming the option and the value. */
export const notNegative = (where: string, name: string, input: Duration.DurationInput): Duration.Duration =>
  isZero(input) ? Duration.zero : positive(where, name, input)
