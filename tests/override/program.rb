# Objects, strings, hashes, threads, and the collector.
words = Hash.new { |hash, key| hash[key] = [] }
100_000.times { |i| words["word#{i * 7919 % 5003}"] << i }
puts words.size, words.values.map(&:size).max
GC.start
text = (1..50_000).map { |i| "line #{i}" }.join("\n")
puts text.size, text.scan(/9$/).size
sums = (0...4).map do |n|
  Thread.new { (0...30_000).map { |i| "#{n}-#{i}" }.map(&:size).sum }
end.map(&:value)
p sums
p (3**10_000).to_s.each_char.map(&:to_i).sum
GC.start
GC.compact if GC.respond_to?(:compact)
puts words["word17"].first(3).inspect
