/**
 * The log of the command line: short lines on stderr, never through the status line.
 */
import * as Cause from "effect/Cause"
import * as HashMap from "effect/HashMap"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import * as Option from "effect/Option"
import type { LogLevel as Level } from "./reading.js"
import type { Screen } from "./screen.js"
import type { Colour } from "./text.js"
import { clean, coloured, localTime, plain } from "./text.js"

const levels: Readonly<Record<Level, LogLevel.LogLevel>> = {
  none: LogLevel.None,
  error: LogLevel.Error,
  warning: LogLevel.Warning,
  info: LogLevel.Info,
  debug: LogLevel.Debug
}

const colours: Readonly<Record<string, Colour>> = { Error: "red", Fatal: "red", Warning: "yellow" }

/** What a message of the library says, in the words of the command line. */
export const inOptions = (message: string): string =>
  message
    .replaceAll("`maxBodyBytes`", "--max-body")
    .replaceAll("`timeout`", "--timeout")
    .replaceAll(/`columns\.(\w+)`/g, "?$1=")
    .replaceAll("`columns`", "?seq=, ?data= and so on")
    .replaceAll("`table`", "?table=")
    .replaceAll("`assumeNeverReused`", "?assume=never-reused")
    .replaceAll("`assumeOrdered`", "?assume=ordered")
    .replaceAll("give the client its CA", "set NODE_EXTRA_CA_CERTS to the file of its CA")

/** Logs on the screen from this level on. */
export const layer = (screen: Screen, level: Level): Layer.Layer<never> => {
  const paint = screen.hasColour.stderr ? coloured : plain
  const logger = Logger.make(({ annotations, cause, date, logLevel, message }) => {
    const source = Option.getOrElse(HashMap.get(annotations, "periscope.source"), () => "")
    // an error of an unnamed source says the address that the line begins with once more
    const text = [message].flat().map(String).join(" ").replace(`): ${source} `, "): ")
    const lines = [
      `${paint("dim", localTime(date.getTime()))} ${paint(colours[logLevel._tag] ?? "dim", logLevel.label.toLowerCase())} ${clean(inOptions(text))}`
    ]
    if (level === "debug" && !Cause.isEmpty(cause)) lines.push(Cause.pretty(cause, { renderErrorCause: true }))
    screen.note(`${lines.join("\n")}\n`)
  })
  return Layer.merge(Logger.replace(Logger.defaultLogger, logger), Logger.minimumLogLevel(levels[level]))
}
