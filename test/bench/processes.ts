/**
 * Child processes that answer messages, so that a benchmark can measure one side alone.
 */
import { fork } from "node:child_process"
import { fileURLToPath } from "node:url"

export interface Child<Message, Reply> {
  readonly ask: (message: Message) => Promise<Reply>
  readonly stop: () => Promise<void>
}

/** Starts a script of this folder. One message is answered at a time. */
export const start = <Message, Reply>(script: string, ...args: ReadonlyArray<string>): Child<Message, Reply> =>
  startWith<Message, Reply>([], script, ...args)

/** {@link start} with options of Node itself. */
export const startWith = <Message, Reply>(
  execArgv: ReadonlyArray<string>,
  script: string,
  ...args: ReadonlyArray<string>
): Child<Message, Reply> => {
  const child = fork(fileURLToPath(new URL(script, import.meta.url)), args, { execArgv: [...execArgv] })
  const exited = new Promise<void>((resolve) => child.once("exit", () => resolve()))
  const died = exited.then(() => {
    throw new Error(`${[script, ...args].join(" ")} ended with ${child.signalCode ?? child.exitCode}`)
  })
  died.catch(() => {})
  return {
    ask: (message) => {
      const reply = new Promise<Reply>((resolve) => child.once("message", (value) => resolve(value as Reply)))
      child.send(message as object)
      return Promise.race([reply, died])
    },
    stop: () => {
      child.kill()
      return exited
    }
  }
}

/** The other side: answers each message. */
export const serve = <Message, Reply>(answer: (message: Message) => Reply | Promise<Reply>): void => {
  process.on("message", (message) => {
    Promise.resolve(answer(message as Message)).then(
      (reply) => process.send!(reply as object),
      (error) => {
        console.error(error)
        process.exit(1)
      }
    )
  })
  process.on("disconnect", () => process.exit())
}
