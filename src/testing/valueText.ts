/**
 * Values as text: to compare them, and to show them. Unlike JSON it tells sets, maps, dates and large numbers apart.
 */
import { inspect } from "node:util"

const options = {
  breakLength: Infinity,
  compact: true,
  depth: Infinity,
  maxArrayLength: null,
  maxStringLength: null,
  sorted: true
}

export const valueText = (value: unknown): string =>
  // most values of a simulation are these, and there are millions of them
  typeof value === "number" || typeof value === "string" ? JSON.stringify(value) : inspect(value, options)
