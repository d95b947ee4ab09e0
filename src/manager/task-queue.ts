/**
 * Runs the tasks given to it one after another, in the order they came.
 * Keeps: a task that fails does not stop the next. Leaves: time limits to the tasks.
 */
export class TaskQueue {
  #last: Promise<unknown> = Promise.resolve()

  /** Runs `task` when all earlier ones are over; settles as it does. */
  run<T>(task: () => Promise<T>): Promise<T> {
    const result = this.#last.then(task)
    this.#last = result.catch(() => undefined) // its caller sees the error
    return result
  }
}
