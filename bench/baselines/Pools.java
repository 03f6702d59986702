/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Pools.java: Java's fixed pool and its ForkJoinPool, asked T1–T10 but T8 with the work and the checks of
 * questions.c. Run as a single file.
 *
 *	java Pools.java --pool fixed|forkjoin --bench T1 --workers 2 --rounds 1
 *
 * Some rounds run before the first that counts, so that the compiler is done: five where a round is short. On
 * the ForkJoinPool a task is a ForkJoinTask, which is its own future; on the fixed pool a Callable in a
 * FutureTask. Grains are calibrated in Java's own code, one thread, as in grains.c.
 */
import java.util.Arrays;
import java.util.Locale;
import java.util.concurrent.Callable;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.ForkJoinPool;
import java.util.concurrent.Future;
import java.util.concurrent.RecursiveAction;
import java.util.concurrent.RecursiveTask;
import java.util.concurrent.TimeUnit;

public class Pools {
	static final double[] LADDER_US = { 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 4, 8, 16, 32 };
	static final int TRIES = 3, WARM_UP = 5;

	static String bench = "T1", pool = "fixed";
	static int workers = 2, rounds = 1;
	static double scale = 1;
	static long tasks; /* --tasks: of a round of T1, instead of a million; short rounds are repeated */
	static boolean forkJoin, idleWorkers;
	static long idleUs;

	/* ---- tasks: each knows its result ---- */

	static abstract class Task extends RecursiveAction implements Callable<Long> {
		long x;

		abstract long run(long x);

		public Long call() {
			compute();
			return x;
		}

		protected void compute() {
			x = run(x);
		}
	}

	static final class Increment extends Task {
		Increment(long x) {
			this.x = x;
		}

		long run(long x) {
			return x + 1;
		}
	}

	static final class Started extends Task {
		long run(long x) {
			return System.nanoTime();
		}
	}

	static final class Spin extends Task {
		final long spins;

		Spin(long x, long spins) {
			this.x = x;
			this.spins = spins;
		}

		long run(long x) {
			return spin(x, spins);
		}
	}

	static long spin(long x, long n) {
		for (long i = 0; i < n; i++)
			x = x * 6364136223846793005L + 1442695040888963407L;
		return x;
	}

	static final class Fib extends RecursiveTask<Integer> {
		final int n;

		Fib(int n) {
			this.n = n;
		}

		protected Integer compute() {
			return fib(n);
		}

		static int fib(int n) {
			if (n < 2)
				return n;
			Fib a = new Fib(n - 1);
			a.fork();
			int b = fib(n - 2);
			return a.join() + b;
		}
	}

	static final class Scale extends RecursiveAction {
		final double[] in, out;
		final int begin, end, grain;

		Scale(double[] in, double[] out, int begin, int end, int grain) {
			this.in = in;
			this.out = out;
			this.begin = begin;
			this.end = end;
			this.grain = grain;
		}

		protected void compute() {
			if (end - begin > grain) {
				int middle = (begin + end) >>> 1;
				invokeAll(new Scale(in, out, begin, middle, grain), new Scale(in, out, middle, end, grain));
				return;
			}
			for (int i = begin; i < end; i++)
				out[i] = in[i] * 1.5 + 2;
		}
	}

	/* ---- the pool ---- */

	static ExecutorService open() {
		return forkJoin ? new ForkJoinPool(workers) : Executors.newFixedThreadPool(workers);
	}

	static Future<?> submit(ExecutorService ex, Task task) {
		return forkJoin ? ((ForkJoinPool) ex).submit((RecursiveAction) task) : ex.submit((Callable<Long>) task);
	}

	static long take(Future<?> f) throws Exception {
		Object y = f.get();

		return forkJoin ? ((Task) f).x : (Long) y;
	}

	static void close(ExecutorService ex) throws Exception {
		ex.shutdown();
		require(ex.awaitTermination(1, TimeUnit.MINUTES), "the pool does not end");
	}

	/* ---- measuring ---- */

	static void require(boolean ok, String sentence) {
		if (ok)
			return;
		System.err.println(sentence);
		System.exit(1);
	}

	static void print(String bench, String unit, double value) {
		System.out.printf(Locale.ROOT, "{\"bench\":\"%s\",\"peer\":\"%s\",\"workers\":%d,\"unit\":\"%s\",\"value\":%.6g}%n", bench,
				forkJoin ? "Java ForkJoinPool" : "Java fixed pool", workers, unit, value);
	}

	static double quantile(double[] values, double q) {
		Arrays.sort(values);
		double position = q * (values.length - 1);
		int below = (int) position;
		if (below + 1 >= values.length)
			return values[values.length - 1];
		return values[below] + (position - below) * (values[below + 1] - values[below]);
	}

	/* See measure_latencies() in measure.h. */
	static void printLatencies(double[] us) {
		StringBuilder line = new StringBuilder();

		print(bench, "us", quantile(us, 0.5));
		print(bench + "/p99", "us", quantile(us, 0.99));
		for (int i = 0; i <= 100; i++)
			line.append(String.format(Locale.ROOT, "%.4g,", quantile(us, i / 100.0)));
		line.append(String.format(Locale.ROOT, "%.4g,%.4g", quantile(us, 0.995), quantile(us, 0.999)));
		System.out.printf(Locale.ROOT, "{\"bench\":\"%s\",\"peer\":\"%s\",\"workers\":%d,\"unit\":\"us\",\"quantiles\":[%s]}%n", bench,
				forkJoin ? "Java ForkJoinPool" : "Java fixed pool", workers, line);
	}

	static int scaled(long n) {
		return (int) Math.max(1, n * scale);
	}

	/* A round returns the value of the sample. */
	interface Round {
		double run() throws Exception;
	}

	static void sample(String unit, int warmUp, Round round) throws Exception {
		for (int i = 0; i < warmUp; i++)
			round.run();
		for (int i = 0; i < rounds; i++)
			print(bench, unit, round.run());
	}

	/* ---- the questions ---- */

	static void produce(ExecutorService ex, Future<?>[] futures, long first) {
		try {
			for (int i = 0; i < futures.length; i++)
				futures[i] = submit(ex, new Increment(first + i));
			for (int i = 0; i < futures.length; i++)
				require(take(futures[i]) == first + i + 1, "a result is wrong");
		} catch (Exception e) {
			require(false, e.toString());
		}
	}

	static void askGrowth(ExecutorService ex) throws Exception {
		int n = scaled(tasks), repeats = scaled(Math.max(1, 100000 / tasks)), warmUp = tasks > 1000000 ? 1 : 3 * WARM_UP;
		Future<?>[] futures = new Future<?>[n];

		bench += "/at " + tasks + " tasks";
		sample("ns/task", warmUp, () -> {
			double[] ns = new double[repeats];

			System.gc();
			for (int i = 0; i < repeats; i++) {
				long begin = System.nanoTime();
				produce(ex, futures, 0);
				ns[i] = (double) (System.nanoTime() - begin) / n;
			}
			return quantile(ns, 0.5);
		});
	}

	static void askSubmit(ExecutorService ex, int producers) throws Exception {
		int n = scaled(1000000 / producers);
		Future<?>[][] futures = new Future<?>[producers][n];

		sample("ns/task", WARM_UP, () -> {
			CountDownLatch ready = new CountDownLatch(producers), go = new CountDownLatch(1);
			Thread[] threads = new Thread[producers];
			long begin;

			System.gc();
			if (producers == 1) {
				begin = System.nanoTime();
				produce(ex, futures[0], 0);
				return (double) (System.nanoTime() - begin) / n;
			}
			for (int p = 0; p < producers; p++) {
				int number = p;
				threads[p] = new Thread(() -> {
					ready.countDown();
					try {
						go.await();
					} catch (InterruptedException e) {
						return;
					}
					produce(ex, futures[number], (long) number * n);
				});
				threads[p].start();
			}
			ready.await();
			begin = System.nanoTime();
			go.countDown();
			for (Thread thread : threads)
				thread.join();
			return (double) (System.nanoTime() - begin) / ((double) n * producers);
		});
	}

	static void pause(long us) throws Exception {
		if (us > 0)
			TimeUnit.MICROSECONDS.sleep(us);
	}

	static double[] pings(ExecutorService ex, int n, boolean waking) throws Exception {
		double[] us = new double[n];

		for (int i = 0; i < n; i++) {
			pause(waking ? 5000 : idleUs);
			long begin = System.nanoTime();
			long y = take(submit(ex, waking ? new Started() : new Increment(i)));
			us[i] = (waking ? y - begin : System.nanoTime() - begin) / 1e3;
			require(waking ? y >= begin : y == i + 1, "a ping is wrong");
		}
		return us;
	}

	static void askLatency(ExecutorService ex, boolean waking) throws Exception {
		int n = scaled(waking ? 200 : idleUs > 0 ? 300 : 20000);
		long cold = idleUs;

		idleUs = 0;
		for (int i = 0; i < WARM_UP; i++)
			pings(ex, scaled(20000), false);
		idleUs = cold;
		for (int i = 0; i < rounds; i++) {
			double[] us = pings(ex, n, waking);
			printLatencies(us);
		}
	}

	static void askFib(ForkJoinPool ex) throws Exception {
		int n = scale < 1 ? 15 : 30, expected = scale < 1 ? 610 : 832040, calls = scale < 1 ? 1973 : 2692537;

		sample("ns/call", 2, () -> {
			double[] ns = new double[9];
			for (int i = 0; i < ns.length; i++) {
				long begin = System.nanoTime();
				int y = ex.invoke(new Fib(n));
				ns[i] = (double) (System.nanoTime() - begin) / calls;
				require(y == expected, "fib is wrong");
			}
			return quantile(ns, 0.5);
		});
	}

	static void askMap(ForkJoinPool ex) throws Exception {
		int n = scaled(10000000);
		double[] in = new double[n], out = new double[n];

		for (int i = 0; i < n; i++)
			in[i] = i;
		sample("ms", 3, () -> {
			double[] ms = new double[5];
			for (int run = 0; run < ms.length; run++) {
				long begin = System.nanoTime();
				ex.invoke(new Scale(in, out, 0, n, Math.max(1, n / (4 * workers))));
				ms[run] = (System.nanoTime() - begin) / 1e6;
				for (int i = 0; i < n; i++) {
					require(out[i] == in[i] * 1.5 + 2, "a value is wrong");
					out[i] = 0;
				}
			}
			return quantile(ms, 0.5);
		});
	}

	static long alone(int tasks, long spins) {
		long sum = 0;

		for (int i = 0; i < tasks; i++)
			sum += new Spin(i, spins).run(i);
		return sum;
	}

	static long pooled(ExecutorService ex, Future<?>[] futures, int tasks, long spins) throws Exception {
		long sum = 0;

		for (int i = 0; i < tasks; i++)
			futures[i] = submit(ex, new Spin(i, spins));
		for (int i = 0; i < tasks; i++)
			sum += take(futures[i]);
		return sum;
	}

	static double efficiency(ExecutorService ex, Future<?>[] futures, int tasks, long spins) throws Exception {
		double bestAlone = 1e18, bestPooled = 1e18;

		for (int i = 0; i < TRIES; i++) {
			long begin = System.nanoTime(), sum = alone(tasks, spins), middle = System.nanoTime();
			require(sum == pooled(ex, futures, tasks, spins), "a sum is wrong");
			bestAlone = Math.min(bestAlone, middle - begin);
			bestPooled = Math.min(bestPooled, System.nanoTime() - middle);
		}
		return bestAlone / (bestPooled * Math.min(workers, Runtime.getRuntime().availableProcessors()));
	}

	static void askGrain(ExecutorService ex) throws Exception {
		Future<?>[] futures = new Future<?>[scaled(150000)];
		double spinNs = 1e9;

		for (int i = 0; i < 6; i++) {
			long begin = System.nanoTime();
			require(spin(begin, 4000000) != 1, "unlikely");
			spinNs = Math.min(spinNs, (System.nanoTime() - begin) / 4e6);
			pooled(ex, futures, futures.length, 100);
			alone(futures.length, 100);
		}
		for (int round = 0; round < rounds; round++) {
			for (int i = 0; i < LADDER_US.length; i++) {
				double share = efficiency(ex, futures, scaled((long) (30000 / LADDER_US[i])), (long) (LADDER_US[i] * 1000 / spinNs));
				print(bench + "/at " + (LADDER_US[i] % 1 == 0 ? "" + (int) LADDER_US[i] : "" + LADDER_US[i]) + " us", "%",
						100 * share);
			}
		}
	}

	/* What the heap holds after a collection: not what the process has resident, which is as large as the heap may grow. */
	static long heap() {
		for (int i = 0; i < 3; i++)
			System.gc();
		return Runtime.getRuntime().totalMemory() - Runtime.getRuntime().freeMemory();
	}

	static void askFootprint(ExecutorService ex) throws Exception {
		int n = scaled(1000000);
		Future<?>[] futures = new Future<?>[n];
		CountDownLatch held = new CountDownLatch(workers), gate = new CountDownLatch(1);

		for (int i = 0; i < workers; i++)
			ex.execute(() -> {
				held.countDown();
				try {
					gate.await();
				} catch (InterruptedException e) {
					return;
				}
			});
		held.await();
		long before = heap();
		for (int i = 0; i < n; i++)
			futures[i] = submit(ex, new Increment(i));
		long after = heap();
		gate.countDown();
		for (int i = 0; i < n; i++)
			require(take(futures[i]) == i + 1, "a result is wrong");
		print(bench, "B/task", (double) (after - before) / n);
	}

	static void askLife() throws Exception {
		sample("us", WARM_UP, () -> {
			double[] us = new double[Math.max(1, scaled(50))];
			for (int i = 0; i < us.length; i++) {
				long begin = System.nanoTime();
				ExecutorService ex = open();
				Future<?>[] futures = new Future<?>[4];
				for (int k = 0; k < 4 && !idleWorkers; k++)
					futures[k] = submit(ex, new Increment(k));
				for (int k = 0; k < 4 && !idleWorkers; k++)
					require(take(futures[k]) == k + 1, "a result is wrong");
				close(ex);
				us[i] = (System.nanoTime() - begin) / 1e3;
			}
			return quantile(us, 0.5);
		});
	}

	/* False: not for this pool. */
	static boolean ask(ExecutorService ex) throws Exception {
		switch (bench) {
		case "T1" -> {
			if (tasks > 0)
				askGrowth(ex);
			else
				askSubmit(ex, 1);
		}
		case "T4" -> askSubmit(ex, 4);
		case "T2", "T2/cold", "T2/paced", "T2/busy", "T2/one-cpu" -> askLatency(ex, false);
		case "T10" -> askLatency(ex, true);
		case "T5" -> askGrain(ex);
		case "T7" -> askFootprint(ex);
		case "T9", "T9/unused" -> askLife();
		case "T3" -> {
			if (!forkJoin)
				return false;
			askFib((ForkJoinPool) ex);
		}
		case "T6" -> {
			if (!forkJoin)
				return false;
			askMap((ForkJoinPool) ex);
		}
		default -> {
			return false;
		}
		}
		return true;
	}

	public static void main(String[] args) throws Exception {
		for (int i = 0; i < args.length; i++)
			switch (args[i]) {
			case "--bench" -> bench = args[++i];
			case "--pool" -> pool = args[++i];
			case "--workers" -> workers = Integer.parseInt(args[++i]);
			case "--rounds" -> rounds = Integer.parseInt(args[++i]);
			case "--scale" -> scale = Double.parseDouble(args[++i]);
			case "--tasks" -> tasks = Long.parseLong(args[++i]);
			case "--idle-us" -> idleUs = Long.parseLong(args[++i]);
			case "--idle-workers" -> idleWorkers = true;
			default -> require(false, "unknown option " + args[i]);
			}
		forkJoin = pool.equals("forkjoin");
		ExecutorService ex = open();
		boolean known = ask(ex);
		close(ex);
		System.exit(known ? 0 : 77);
	}
}
