"""What is measured on images: wavelets, PSNR and SSIM, FID and KID, spectra."""
