//! Matrix products in workgroup memory, for GPUs.

use cotangent_tensor::Error;

use super::matmul::Product;
use crate::Dispatch;

/// The dispatches, if a tile suits shape and target.
pub(crate) fn lower(_product: &Product<'_>) -> Result<Option<Vec<Dispatch>>, Error> {
    Ok(None)
}
