/**
 * Text on a terminal: what it is wide, cutting it, and keeping what others wrote from steering the terminal.
 */

const wide =
  /^(?:\p{Emoji_Presentation}|[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6\u{20000}-\u{3fffd}])$/u
const zero = /^[\p{M}\u200b-\u200f\u2060\ufe00-\ufe0f]$/u

const widthOf = (symbol: string): number => {
  if (symbol < "\u0300") return 1
  return zero.test(symbol) ? 0 : wide.test(symbol) ? 2 : 1
}

const escape = "\u001b"
const colourCode = new RegExp(`${escape}\\[[0-9;]*m`, "g")

/** How many columns a text takes; colours take none. */
export const width = (text: string): number => {
  let sum = 0
  for (const symbol of text.replace(colourCode, "")) sum += widthOf(symbol)
  return sum
}

/** Cuts an uncoloured text to so many columns, with "…" in place of what is left out. */
export const cut = (text: string, columns: number): string => {
  if (columns <= 0) return ""
  if (width(text) <= columns) return text
  let kept = ""
  let sum = 0
  for (const symbol of text) {
    sum += widthOf(symbol)
    if (sum > columns - 1) break
    kept += symbol
  }
  return `${kept}…`
}

/** Fills an uncoloured text up with blanks. */
export const pad = (text: string, columns: number): string => text + " ".repeat(Math.max(0, columns - width(text)))

/** One line without control characters and without marks that turn the direction of the text. */
export const clean = (text: string): string =>
  text.replace(/[\s\u2028\u2029]+/g, " ").replace(/[\u0000-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g, "�")

/** As much of an argument as can be shown: it may hold a secret. */
export const shown = (text: string): string =>
  text
    .replace(/[?#].*$/s, "")
    .replace(/^.*@/s, "")
    .slice(0, 100)

export type Colour = "red" | "green" | "yellow" | "cyan" | "dim" | "bold"

const codes: Readonly<Record<Colour, readonly [number, number]>> = {
  red: [31, 39],
  green: [32, 39],
  yellow: [33, 39],
  cyan: [36, 39],
  dim: [2, 22],
  bold: [1, 22]
}

export type Paint = (colour: Colour, text: string) => string

export const plain: Paint = (_, text) => text

export const coloured: Paint = (colour, text) =>
  text === "" ? "" : `${escape}[${codes[colour][0]}m${text}${escape}[${codes[colour][1]}m`

/** `YYYY-MM-DD HH:MM:SS` here and then. */
export const localDateTime = (millis: number): string => {
  const date = new Date(millis)
  const day = [date.getMonth() + 1, date.getDate()].map((part) => String(part).padStart(2, "0")).join("-")
  return `${date.getFullYear()}-${day} ${localTime(millis)}`
}

/** `HH:MM:SS` here and now of that moment. */
export const localTime = (millis: number): string => {
  const date = new Date(millis)
  return [date.getHours(), date.getMinutes(), date.getSeconds()].map((part) => String(part).padStart(2, "0")).join(":")
}
