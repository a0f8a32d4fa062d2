/**
 * Reads what is written to the standard input of the command line.
 */
import * as Effect from "effect/Effect"
import * as logPeer from "./logPeer.js"
import { CannotOpen } from "./stores.js"

/** All of it. `undone`: what did not happen where it cannot be read. */
export const text = (undone: string): Effect.Effect<string, CannotOpen> =>
  Effect.async((resume) => {
    const parts: Array<string> = []
    process.stdin.setEncoding("utf8")
    process.stdin.on("data", (text: string) => void parts.push(text))
    process.stdin.once("end", () => resume(Effect.succeed(parts.join(""))))
    process.stdin.once("error", (error) =>
      resume(Effect.fail(new CannotOpen(`stdin cannot be read (${logPeer.codeOf(error)}); ${undone}`)))
    )
  })
