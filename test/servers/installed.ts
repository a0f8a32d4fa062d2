/**
 * Servers that live tests need and that no `npm ci` brings.
 *
 *   const server = { name: "Redis", commands: ["redis-server"], install: "apt-get install redis-server" }
 *   describe.skipIf(!isInstalled(server))("...", () => { ... })
 *
 * A server that is not installed is named with its install line, and its tests are skipped. Where `CI` or
 * PERISCOPE_REQUIRE_SERVERS is set, the test file fails instead: nothing may be skipped there unseen.
 */
import { accessSync, constants, statSync } from "node:fs"
import path from "node:path"

export interface Server {
  readonly name: string
  /** Programs, by name or path; all of them are needed. Debian keeps some where only root looks for them: /usr/sbin. */
  readonly commands: ReadonlyArray<string>
  /** Other files that are needed, such as a module of the server. */
  readonly files?: ReadonlyArray<string>
  /** The command that installs it. */
  readonly install: string
}

/** What is asked of the machine. */
export interface Machine {
  readonly environment: Readonly<Record<string, string | undefined>>
  readonly tell: (sentence: string) => void
}

const isFile = (file: string, mode: number): boolean => {
  try {
    accessSync(file, mode)
    return statSync(file).isFile()
  } catch {
    return false
  }
}

/** The whole path of a program, or undefined. */
export const find = (command: string, searched = process.env["PATH"] ?? ""): string | undefined =>
  command.includes("/")
    ? [command].find((file) => isFile(file, constants.X_OK))
    : [...searched.split(":"), "/usr/local/sbin", "/usr/sbin", "/sbin"]
        .filter((folder) => folder !== "")
        .map((folder) => path.join(folder, command))
        .find((file) => isFile(file, constants.X_OK))

const isSet = (value: string | undefined): boolean => !["", "0", "false", undefined].includes(value)

/** Whether a server is there. Without it: says so, or fails where servers are required. */
export const isInstalled = (
  { commands, files = [], install, name }: Server,
  { environment, tell }: Machine = { environment: process.env, tell: console.warn }
): boolean => {
  const missing = [
    ...commands.filter((command) => find(command, environment["PATH"]) === undefined),
    ...files.filter((file) => !isFile(file, constants.R_OK))
  ]
  if (missing.length === 0) return true
  const sentence = `${name} is not installed (${missing.join(", ")} not found). To install it: ${install}`
  if (isSet(environment["CI"]) || isSet(environment["PERISCOPE_REQUIRE_SERVERS"])) throw new Error(sentence)
  tell(`${sentence}\nIts live tests are skipped.`)
  return false
}
