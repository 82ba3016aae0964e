//! The list of driver functions that get a trampoline: everything `cust_raw` 0.11.3 declares, by the kind it is counted
//! under. A test compares it with `cust_raw`'s own source where that is at hand.

/// Calls the macro `$apply` with the whole list, as `Kind { name name .. } Kind { .. } ..`.
macro_rules! with_functions {
    ($apply:ident) => {
        $apply! {
            Allocation {
                cuMemAlloc_v2 cuMemAllocPitch_v2 cuMemAllocHost_v2 cuMemHostAlloc cuMemAllocManaged
                cuMemHostRegister_v2 cuArrayCreate_v2 cuArray3DCreate_v2 cuMipmappedArrayCreate cuMemAddressReserve
                cuMemCreate cuMemMap cuMemAllocAsync cuMemPoolCreate cuMemAllocFromPoolAsync
            }
            Free {
                cuMemFree_v2 cuMemFreeHost cuMemHostUnregister cuArrayDestroy cuMipmappedArrayDestroy cuMemAddressFree
                cuMemRelease cuMemUnmap cuMemFreeAsync cuMemPoolDestroy
            }
            Copy {
                cuMemcpy cuMemcpyPeer cuMemcpyHtoD_v2 cuMemcpyDtoH_v2 cuMemcpyDtoD_v2 cuMemcpyDtoA_v2 cuMemcpyAtoD_v2
                cuMemcpyHtoA_v2 cuMemcpyAtoH_v2 cuMemcpyAtoA_v2 cuMemcpy2D_v2 cuMemcpy2DUnaligned_v2 cuMemcpy3D_v2
                cuMemcpy3DPeer cuMemcpyAsync cuMemcpyPeerAsync cuMemcpyHtoDAsync_v2 cuMemcpyDtoHAsync_v2
                cuMemcpyDtoDAsync_v2 cuMemcpyHtoAAsync_v2 cuMemcpyAtoHAsync_v2 cuMemcpy2DAsync_v2 cuMemcpy3DAsync_v2
                cuMemcpy3DPeerAsync cuMemsetD8_v2 cuMemsetD16_v2 cuMemsetD32_v2 cuMemsetD2D8_v2 cuMemsetD2D16_v2
                cuMemsetD2D32_v2 cuMemsetD8Async cuMemsetD16Async cuMemsetD32Async cuMemsetD2D8Async
                cuMemsetD2D16Async cuMemsetD2D32Async cuMemPrefetchAsync
            }
            Launch {
                cuLaunchKernel cuLaunchCooperativeKernel cuLaunchCooperativeKernelMultiDevice cuLaunchHostFunc
                cuLaunch cuLaunchGrid cuLaunchGridAsync
            }
            GraphLaunch {
                cuGraphLaunch
            }
            Synchronization {
                cuCtxSynchronize cuStreamSynchronize cuEventSynchronize
            }
            ModuleLoad {
                cuModuleLoad cuModuleLoadData cuModuleLoadDataEx cuModuleLoadFatBinary cuLinkCreate_v2
                cuLinkAddData_v2 cuLinkAddFile_v2 cuLinkComplete cuLinkDestroy
            }
            Other {
                cuGetErrorString cuGetErrorName cuInit cuDriverGetVersion cuDeviceGet cuDeviceGetCount cuDeviceGetName
                cuDeviceGetUuid cuDeviceGetUuid_v2 cuDeviceGetLuid cuDeviceTotalMem_v2
                cuDeviceGetTexture1DLinearMaxWidth cuDeviceGetAttribute cuDeviceGetNvSciSyncAttributes
                cuDeviceSetMemPool cuDeviceGetMemPool cuDeviceGetDefaultMemPool cuFlushGPUDirectRDMAWrites
                cuDeviceGetProperties cuDeviceComputeCapability cuDevicePrimaryCtxRetain cuDevicePrimaryCtxRelease_v2
                cuDevicePrimaryCtxSetFlags_v2 cuDevicePrimaryCtxGetState cuDevicePrimaryCtxReset_v2
                cuDeviceGetExecAffinitySupport cuCtxCreate_v2 cuCtxCreate_v3 cuCtxDestroy_v2 cuCtxPushCurrent_v2
                cuCtxPopCurrent_v2 cuCtxSetCurrent cuCtxGetCurrent cuCtxGetDevice cuCtxGetFlags cuCtxSetLimit
                cuCtxGetLimit cuCtxGetCacheConfig cuCtxSetCacheConfig cuCtxGetSharedMemConfig cuCtxSetSharedMemConfig
                cuCtxGetApiVersion cuCtxGetStreamPriorityRange cuCtxResetPersistingL2Cache cuCtxGetExecAffinity
                cuCtxAttach cuCtxDetach cuModuleUnload cuModuleGetFunction cuModuleGetGlobal_v2 cuModuleGetTexRef
                cuModuleGetSurfRef cuMemGetInfo_v2 cuMemGetAddressRange_v2 cuMemHostGetDevicePointer_v2
                cuMemHostGetFlags cuDeviceGetByPCIBusId cuDeviceGetPCIBusId cuIpcGetEventHandle cuIpcOpenEventHandle
                cuIpcGetMemHandle cuIpcOpenMemHandle_v2 cuIpcCloseMemHandle cuArrayGetDescriptor_v2
                cuArrayGetSparseProperties cuMipmappedArrayGetSparseProperties cuArrayGetPlane
                cuArray3DGetDescriptor_v2 cuMipmappedArrayGetLevel cuMemMapArrayAsync cuMemSetAccess cuMemGetAccess
                cuMemExportToShareableHandle cuMemImportFromShareableHandle cuMemGetAllocationGranularity
                cuMemGetAllocationPropertiesFromHandle cuMemRetainAllocationHandle cuMemPoolTrimTo
                cuMemPoolSetAttribute cuMemPoolGetAttribute cuMemPoolSetAccess cuMemPoolGetAccess
                cuMemPoolExportToShareableHandle cuMemPoolImportFromShareableHandle cuMemPoolExportPointer
                cuMemPoolImportPointer cuPointerGetAttribute cuMemAdvise cuMemRangeGetAttribute
                cuMemRangeGetAttributes cuPointerSetAttribute cuPointerGetAttributes cuStreamCreate
                cuStreamCreateWithPriority cuStreamGetPriority cuStreamGetFlags cuStreamGetCtx cuStreamWaitEvent
                cuStreamAddCallback cuStreamBeginCapture_v2 cuThreadExchangeStreamCaptureMode cuStreamEndCapture
                cuStreamIsCapturing cuStreamGetCaptureInfo cuStreamGetCaptureInfo_v2 cuStreamUpdateCaptureDependencies
                cuStreamAttachMemAsync cuStreamQuery cuStreamDestroy_v2 cuStreamCopyAttributes cuStreamGetAttribute
                cuStreamSetAttribute cuEventCreate cuEventRecord cuEventRecordWithFlags cuEventQuery cuEventDestroy_v2
                cuEventElapsedTime cuImportExternalMemory cuExternalMemoryGetMappedBuffer
                cuExternalMemoryGetMappedMipmappedArray cuDestroyExternalMemory cuImportExternalSemaphore
                cuSignalExternalSemaphoresAsync cuWaitExternalSemaphoresAsync cuDestroyExternalSemaphore
                cuStreamWaitValue32 cuStreamWaitValue64 cuStreamWriteValue32 cuStreamWriteValue64 cuStreamBatchMemOp
                cuFuncGetAttribute cuFuncSetAttribute cuFuncSetCacheConfig cuFuncSetSharedMemConfig cuFuncGetModule
                cuFuncSetBlockShape cuFuncSetSharedSize cuParamSetSize cuParamSeti cuParamSetf cuParamSetv
                cuParamSetTexRef cuGraphCreate cuGraphAddKernelNode cuGraphKernelNodeGetParams
                cuGraphKernelNodeSetParams cuGraphAddMemcpyNode cuGraphMemcpyNodeGetParams cuGraphMemcpyNodeSetParams
                cuGraphAddMemsetNode cuGraphMemsetNodeGetParams cuGraphMemsetNodeSetParams cuGraphAddHostNode
                cuGraphHostNodeGetParams cuGraphHostNodeSetParams cuGraphAddChildGraphNode
                cuGraphChildGraphNodeGetGraph cuGraphAddEmptyNode cuGraphAddEventRecordNode
                cuGraphEventRecordNodeGetEvent cuGraphEventRecordNodeSetEvent cuGraphAddEventWaitNode
                cuGraphEventWaitNodeGetEvent cuGraphEventWaitNodeSetEvent cuGraphAddExternalSemaphoresSignalNode
                cuGraphExternalSemaphoresSignalNodeGetParams cuGraphExternalSemaphoresSignalNodeSetParams
                cuGraphAddExternalSemaphoresWaitNode cuGraphExternalSemaphoresWaitNodeGetParams
                cuGraphExternalSemaphoresWaitNodeSetParams cuGraphAddMemAllocNode cuGraphMemAllocNodeGetParams
                cuGraphAddMemFreeNode cuGraphMemFreeNodeGetParams cuDeviceGraphMemTrim cuDeviceGetGraphMemAttribute
                cuDeviceSetGraphMemAttribute cuGraphClone cuGraphNodeFindInClone cuGraphNodeGetType cuGraphGetNodes
                cuGraphGetRootNodes cuGraphGetEdges cuGraphNodeGetDependencies cuGraphNodeGetDependentNodes
                cuGraphAddDependencies cuGraphRemoveDependencies cuGraphDestroyNode cuGraphInstantiate_v2
                cuGraphInstantiateWithFlags cuGraphExecKernelNodeSetParams cuGraphExecMemcpyNodeSetParams
                cuGraphExecMemsetNodeSetParams cuGraphExecHostNodeSetParams cuGraphExecChildGraphNodeSetParams
                cuGraphExecEventRecordNodeSetEvent cuGraphExecEventWaitNodeSetEvent
                cuGraphExecExternalSemaphoresSignalNodeSetParams cuGraphExecExternalSemaphoresWaitNodeSetParams
                cuGraphUpload cuGraphExecDestroy cuGraphDestroy cuGraphExecUpdate cuGraphKernelNodeCopyAttributes
                cuGraphKernelNodeGetAttribute cuGraphKernelNodeSetAttribute cuGraphDebugDotPrint cuUserObjectCreate
                cuUserObjectRetain cuUserObjectRelease cuGraphRetainUserObject cuGraphReleaseUserObject
                cuOccupancyMaxActiveBlocksPerMultiprocessor cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags
                cuOccupancyMaxPotentialBlockSize cuOccupancyMaxPotentialBlockSizeWithFlags
                cuOccupancyAvailableDynamicSMemPerBlock cuTexRefSetArray cuTexRefSetMipmappedArray
                cuTexRefSetAddress_v2 cuTexRefSetAddress2D_v3 cuTexRefSetFormat cuTexRefSetAddressMode
                cuTexRefSetFilterMode cuTexRefSetMipmapFilterMode cuTexRefSetMipmapLevelBias
                cuTexRefSetMipmapLevelClamp cuTexRefSetMaxAnisotropy cuTexRefSetBorderColor cuTexRefSetFlags
                cuTexRefGetAddress_v2 cuTexRefGetArray cuTexRefGetMipmappedArray cuTexRefGetAddressMode
                cuTexRefGetFilterMode cuTexRefGetFormat cuTexRefGetMipmapFilterMode cuTexRefGetMipmapLevelBias
                cuTexRefGetMipmapLevelClamp cuTexRefGetMaxAnisotropy cuTexRefGetBorderColor cuTexRefGetFlags
                cuTexRefCreate cuTexRefDestroy cuSurfRefSetArray cuSurfRefGetArray cuTexObjectCreate
                cuTexObjectDestroy cuTexObjectGetResourceDesc cuTexObjectGetTextureDesc cuTexObjectGetResourceViewDesc
                cuSurfObjectCreate cuSurfObjectDestroy cuSurfObjectGetResourceDesc cuDeviceCanAccessPeer
                cuCtxEnablePeerAccess cuCtxDisablePeerAccess cuDeviceGetP2PAttribute cuGraphicsUnregisterResource
                cuGraphicsSubResourceGetMappedArray cuGraphicsResourceGetMappedMipmappedArray
                cuGraphicsResourceGetMappedPointer_v2 cuGraphicsResourceSetMapFlags_v2 cuGraphicsMapResources
                cuGraphicsUnmapResources cuGetProcAddress cuGetExportTable cuProfilerInitialize cuProfilerStart
                cuProfilerStop
            }
        }
    };
}
pub(crate) use with_functions;
