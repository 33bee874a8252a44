// Negative log-likelihood of a count `y` with mean exp(eta) and variance mean + alpha · mean², without its constants.
fn negative_binomial(eta: f32, y: f32, alpha: f32) -> f32 {
  let r = 1.0 / alpha;
  // log(1 + alpha · mean), which overflows for no eta
  let spread = softplus(eta + log(alpha));
  return (y + r) * spread - y * eta;
}

// The same, but rows that fit badly count as if they were at the edge of what is likely.
fn robust(eta: f32, y: f32, alpha: f32, edge: f32) -> f32 {
  let loss = negative_binomial(eta, y, alpha);
  let best = negative_binomial(log(max(y, 0.5)), y, alpha);
  let excess = loss - best;
  if excess <= edge {
    return loss;
  }
  // from here on the slope falls with the root
  return best + 2.0 * sqrt(edge * excess) - edge;
}
